"""The layers of docs/architecture.md, read off the source: an import goes down, never up."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "unlearn"
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))

LAYERS = {
    "cli": 7,
    "commands": 6,
    "run": 5,
    "config": 5,
    "sequence": 5,
    "original": 5,
    "stages": 5,
    "outcome": 5,
    "curves": 5,
    "memory": 5,
    "api": 5,
    "checks": 4,
    "evaluation": 4,
    "networks": 4,
    "idle": 4,
    "report": 4,
    "methods": 3,
    "attacks": 3,
    "metrics": 3,
    "resurgence": 3,
    "models": 2,
    "images": 2,
    "results": 1,
    "ranges": 1,
    "outputs": 1,
    "detectors": 1,
    "choice": 1,
    "prompt_files": 1,
    "concepts": 1,
    "tracking": 1,
    "artifacts": 1,
    "replacing": 1,
    "provenance": 1,
    "seeding": 1,
    "sentences": 1,
    "writing": 0,
    "locks": 0,
    "digests": 0,
    "environment": 0,
    "remembered": 0,
    "syntax": 0,
    "errors": 0,
    "shortage": 0,
    "confidential": 0,
    "heard": 0,
    "freeing": 0,
    "network": 0,
    "stopping": 0,
    "validation": 0,
}

#: Who may import a part of its own layer or, for a library, who may import it at all.
ALLOWED = {
    "hydra": {"config", "commands"},
    "omegaconf": {"config", "commands"},
    "wandb": {"tracking"},
    "diffusers": {"models"},
    "open_clip": {"detectors"},
    "onnxruntime": {"detectors"},
    "torchmetrics": {"metrics"},
    "jinja2": {"report"},
    "matplotlib": {"report"},
}

#: Importing these takes seconds, so it waits for the function that needs them.
HEAVY = {"diffusers", "matplotlib", "open_clip", "peft", "torchmetrics", "transformers", "wandb"}

#: These answer before torch could be imported.
LIGHT = {
    "cli",
    "errors",
    "heard",
    "writing",
    "locks",
    "replacing",
    "artifacts",
    "choice",
    "concepts",
    "prompt_files",
    "sentences",
    "results",
    "ranges",
    "network",
    "stopping",
    "freeing",
    "validation",
    "report",
}


def part(path):
    return path.parts[0].removesuffix(".py")


def imports(tree, top_only=False):
    """Full module names that a file imports, without those for type checkers alone."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module
        elif not (top_only and isinstance(node, ast.FunctionDef)):
            nodes.extend(ast.iter_child_nodes(node))


def parsed(path):
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def test_every_part_has_a_layer():
    parts = {part(path) for path in FILES} - {"__init__"}
    assert parts <= set(LAYERS) | {"data"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path):
    here = part(path)
    for name in imports(parsed(path)):
        words = name.split(".")
        if words[0] == "unlearn" and len(words) > 1 and words[1] != here and here != "__init__":
            assert LAYERS[words[1]] <= LAYERS[here], f"{path} imports {name}, which is above it"
            if here == "attacks":
                assert words[1] != "methods", "attacks know no method"
            if here == "metrics":
                assert words[1] not in {"models", "methods", "attacks"}, "metrics see images only"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_libraries_stay_where_they_belong(path):
    for name in imports(parsed(path)):
        library = name.split(".")[0]
        assert part(path) in ALLOWED.get(library, {part(path)}), f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_heavy_libraries_are_imported_where_they_are_used(path):
    heavy = {name for name in imports(parsed(path), top_only=True) if name.split(".")[0] in HEAVY}
    assert not heavy, f"{path} imports {heavy} at its top"
    if part(path) in LIGHT:
        torch = {name for name in imports(parsed(path), top_only=True) if name.startswith("torch")}
        assert not torch, f"{path} is to be importable without torch"
