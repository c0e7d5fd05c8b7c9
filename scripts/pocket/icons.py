"""Emoji artwork from the iconify packages on npm, rendered to RGBA.

`npm pack` fetches a package of pinned version once; a glyph is looked up by its name with the hyphens left
out, as the sets spell names differently.
"""

from __future__ import annotations

import functools
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image

VERSIONS = {"noto": "1.2.9", "fluent-emoji": "1.2.7", "fluent-emoji-high-contrast": "1.2.6"}


def fetch(package: str, folder: Path) -> Path:
    """The unpacked package below ``folder``; asks npm for it if it is not there yet."""
    target = folder / f"{package}-{VERSIONS[package]}"
    if not (target / "icons.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        name = f"@iconify-json/{package}@{VERSIONS[package]}"
        packed = subprocess.run(
            ["npm", "pack", "--silent", name], cwd=folder, check=True, capture_output=True, text=True
        )
        target.mkdir(exist_ok=True)
        with tarfile.open(folder / packed.stdout.strip()) as archive:
            for wanted in ("icons.json", "info.json"):
                member = archive.extractfile(f"package/{wanted}")
                assert member is not None
                (target / wanted).write_bytes(member.read())
    return target


@functools.cache
def _icons(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    icons = json.loads((folder / "icons.json").read_text())
    names = {name.replace("-", ""): name for name in [*icons["icons"], *icons.get("aliases", {})]}
    return icons, names


def svg(folder: Path, icon: str) -> str:
    """The glyph as an SVG document.

    Raises: KeyError: If the set has no such glyph, neither under its name nor under ``person-`` and its
    name.
    """
    icons, names = _icons(folder)
    name = names.get(icon.replace("-", "")) or names["person" + icon.replace("-", "")]
    while name not in icons["icons"]:
        name = icons["aliases"][name]["parent"]
    glyph = icons["icons"][name]
    left, top = (glyph.get(side, icons.get(side, 0)) for side in ("left", "top"))
    width, height = (glyph.get(side, icons.get(side, 16)) for side in ("width", "height"))
    body = glyph["body"].replace("currentColor", "#111")
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{body}</svg>'
    )


def render(document: str, size: int) -> Image.Image:
    """An SVG document as an RGBA image of ``size`` by ``size`` pixels."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=document, width=size, height=size)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")
