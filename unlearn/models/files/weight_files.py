"""Whether the files of weights are whole, as far as their headers tell.

References:
    | https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from unlearn.models.files import descriptions
from unlearn.store.validation import parsed

LONGEST = 100_000_000
"""Bytes of the longest header that safetensors reads."""

BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Of one number, by dtype."""


def problems(file: Path) -> list[str]:
    """What is wrong with a safetensors file, or with each shard of one, as ``source: <what is wrong>``."""
    shards = file.with_name(file.name + ".index.json")
    if shards.is_file() and not file.is_file():
        return _of_shards(shards)
    if not file.is_file():
        others = sorted(other.name for other in file.parent.glob("*.bin"))
        hint = (
            f" {others[0]} is a pickle, which can run code and is never read: convert it." if others else ""
        )
        return [f"source: {file} is missing.{hint}"]
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, LONGEST):
                raise ValueError(f"its header would be {length} bytes long")
            end = tensors_end(parsed(stream.read(length)))
    except OSError as error:
        return [f"source: {file} cannot be read ({error})."]
    except (struct.error, ValueError) as error:
        return [f"source: {file} is damaged or only half written ({error}). Fetch it again."]
    if size != 8 + length + end:
        return [
            f"source: {file} is {size} bytes long where its header says {8 + length + end}. Fetch it again."
        ]
    return []


def shards(index: Path) -> list[str]:
    """The files that an index of split weights names; none if it is damaged."""
    if descriptions.problems(index, descriptions.Shards):
        return []
    return sorted(set(descriptions.read(index)[0]["weight_map"].values()))


def tensors_end(header: Any) -> int:
    """Where the last tensor ends, counted from the end of the header.

    Raises:
        ValueError: If the tensors do not lie one behind the other, each as long as its shape says.
    """
    if not isinstance(header, Mapping):
        raise ValueError("its header is no object")
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if not tensors:
        raise ValueError("it holds no tensor")
    end = 0
    for name, (first, last) in sorted(
        ((n, _place(n, e)) for n, e in tensors.items()), key=lambda each: each[1]
    ):
        if first != end:
            what = "overlaps" if first < end else "leaves a gap behind"
            raise ValueError(f"the tensor '{name}' {what} the one before it")
        end = last
    return end


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor begins and ends."""
    entry = entry if isinstance(entry, Mapping) else {}
    shape, offsets, dtype = (entry.get(key) for key in ("shape", "data_offsets", "dtype"))
    if not (_is_sizes(shape) and _is_sizes(offsets) and len(offsets) == 2 and isinstance(dtype, str)):
        raise ValueError(f"the tensor '{name}' has no shape, place or dtype")
    first, last = offsets
    if last < first or (dtype in BYTES and last - first != math.prod(shape) * BYTES[dtype]):
        raise ValueError(f"the tensor '{name}' is not as long as its shape says")
    return first, last


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)


def _of_shards(index: Path) -> list[str]:
    if bad := descriptions.problems(index, descriptions.Shards):
        return bad
    names = shards(index)
    if not names:
        return [f"source: {index}: weight_map: names no file."]
    if outside := [name for name in names if not _is_inside(name)]:
        return [
            f"source: {index}: weight_map: must name files beside it, got '{outside[0]}'. Do not use this "
            "checkpoint, or fetch it again."
        ]
    # A link may lead elsewhere, as in the hub's cache: what it names is the user's own doing.
    return [problem for name in names for problem in problems(index.with_name(name))]


def _is_inside(name: str) -> bool:
    """Whether a name is that of a file in the same folder, on any system."""
    return (
        name not in ("", ".", "..")
        and PurePosixPath(name).name == name
        and not set(name) & set("\\:\0" + os.sep)
    )
