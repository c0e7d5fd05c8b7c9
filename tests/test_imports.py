"""The rooms of docs/architecture.md, read off the source: imports go down, in no circle, and none is full."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "unlearn"
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))

#: From below to above: a room imports from its own floor and those below it.
FLOORS = (
    {"errors", "seeding", "settings", "system"},
    {"concepts", "detectors", "store", "tracking"},
    {"statistics", "verdict"},
    {"metrics", "models", "report"},
    {"attacks", "methods", "resurgence"},
    {"catalogue"},
    {"plugins"},
    {"config"},
    {"pipeline"},
    {"api"},
    {"commands"},
    {"cli"},
)
LAYERS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

#: Rooms that know nothing of others on their own floor or below.
STRANGERS = {
    "attacks": {"methods", "resurgence"},
    "metrics": {"models", "methods", "attacks"},  # they see images only
    "statistics": {"concepts", "detectors", "store", "tracking"},  # it sees numbers only
    "system": {"seeding"},
    "tracking": {"concepts", "detectors", "store"},
}

#: Who may import a library at all.
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
LIGHT = {"cli", "concepts", "errors", "report", "settings", "store", "system"}

#: What reads and writes images.
DRAWING = {Path("concepts/images.py")}

#: Who knows the whole configuration, beside the room that makes it.
WHOLE = {"api.py", "commands/generate.py", "commands/rerun.py", "commands/run.py", "pipeline/run.py"}

MOST = 15
"""Files of a room."""


def part(path):
    return path.parts[0].removesuffix(".py")


def named(path):
    """The dotted name of a file's module."""
    return ".".join(("unlearn", *path.with_suffix("").parts)).removesuffix(".__init__")


MODULES = {named(path) for path in FILES}


def parsed(path):
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def imports(tree, top_only=False, types=True):
    """Full names of all that a file imports, with what type checkers alone see unless it is not wanted."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if not types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else node.module
        elif not (top_only and isinstance(node, ast.FunctionDef)):
            nodes.extend(ast.iter_child_nodes(node))


GRAPH = {
    named(path): {name for name in imports(parsed(path)) if name in MODULES - {named(path)}} for path in FILES
}


def test_every_part_has_a_layer():
    assert {part(path) for path in FILES} == {*LAYERS, "__init__"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path):
    here = part(path)
    for name in imports(parsed(path)):
        words = name.split(".")
        if words[0] == "unlearn" and len(words) > 1 and words[1] != here and here != "__init__":
            assert LAYERS[words[1]] <= LAYERS[here], f"{path} imports {name}, which is above it"
            assert words[1] not in STRANGERS.get(here, ()), f"{here} is to know nothing of {words[1]}"


def test_below_the_line_nobody_knows_the_whole_configuration():
    knowing = {
        path.as_posix()
        for path in FILES
        if part(path) != "config" and "RunConfig" in (ROOT / path).read_text(encoding="utf-8")
    }
    assert knowing == WHOLE


def test_no_circle_not_even_of_types():
    left = dict(GRAPH)
    while ready := [name for name, below in left.items() if not below & left.keys()]:
        for name in ready:
            del left[name]
    assert not left, f"in a circle, or above one: {sorted(left)}"


def test_no_two_rooms_of_a_floor_import_each_other():
    pairs = {
        (name.split(".")[1], other.split(".")[1])
        for name, below in GRAPH.items()
        for other in below
        if name.count(".") and other.count(".") and name.split(".")[1] != other.split(".")[1]
    }
    assert not {(a, b) for a, b in pairs if (b, a) in pairs}


def test_no_room_is_full_and_each_says_what_lies_in_it():
    rooms = Counter(path.parent for path in FILES)
    assert {str(room): count for room, count in rooms.items() if count > MOST} == {}
    plan = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    for room in rooms:
        assert ast.get_docstring(parsed(room / "__init__.py")), f"{room}/__init__.py says nothing"
        assert f"{room.name}/" in plan or room == Path(), f"docs/architecture.md does not show {room}"


def test_a_room_holds_no_code_of_its_own():
    for path in FILES:
        if path.name == "__init__.py" and path.parent.name not in {"", "commands"}:
            kinds = {type(node) for node in parsed(path).body}
            assert kinds <= {ast.Expr, ast.ImportFrom, ast.Assign}, path


@pytest.mark.parametrize("path", FILES, ids=str)
def test_libraries_stay_where_they_belong(path):
    for name in imports(parsed(path), types=False):
        library = name.split(".")[0]
        assert part(path) in ALLOWED.get(library, {part(path)}), f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_heavy_libraries_are_imported_where_they_are_used(path):
    tops = list(imports(parsed(path), top_only=True, types=False))
    heavy = {name for name in tops if name.split(".")[0] in HEAVY}
    assert not heavy, f"{path} imports {heavy} at its top"
    if part(path) in LIGHT and path not in DRAWING:
        torch = {name for name in tops if name.split(".")[0] == "torch"}
        assert not torch, f"{path} is to be importable without torch"
