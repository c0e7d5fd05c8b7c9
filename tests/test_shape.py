"""The shape of the code: short files, short functions, and a docstring for what others use."""

import ast
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent / "unlearn"
#: What holds code: a room's own file says what lies in it, and data is none.
FILES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if path.name != "__init__.py" and "data" not in path.relative_to(ROOT).parts
)
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef

MEDIAN_FILE, LONGEST_FILE = 120, 400
MEDIAN_FUNCTION = 8
DOCUMENTED = 0.9


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(function):
    """From the first statement of its body to the last, without its docstring; none where that is all."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def public(tree):
    """A file, and the classes and functions in it that others use; nothing within a function."""
    yield tree
    for node in tree.body:
        if isinstance(node, FUNCTION | ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node) if isinstance(node, ast.ClassDef) else [node]


def test_files_are_short():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES
    }
    longest = sorted(lengths.items(), key=lambda item: -item[1])[:5]
    said = f"{len(lengths)} files, median {median(lengths.values())} lines, longest {longest}"
    assert median(lengths.values()) <= MEDIAN_FILE, said
    assert max(lengths.values()) <= LONGEST_FILE, said


def test_functions_are_short():
    lengths = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": lines(node)
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, FUNCTION) and lines(node)
    }
    longest = sorted(lengths.items(), key=lambda item: -item[1])[:5]
    said = f"{len(lengths)} functions, median {median(lengths.values())} lines, longest {longest}"
    assert median(lengths.values()) <= MEDIAN_FUNCTION, said


def test_what_others_use_says_what_it_is():
    documented = {
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}": bool(ast.get_docstring(node))
        for path in FILES
        for node in public(parsed(path))
    }
    share = sum(documented.values()) / len(documented)
    without = [name for name, said in documented.items() if not said]
    assert share >= DOCUMENTED, f"{share:.1%} of {len(documented)}; without: {without}"


def test_what_is_measured(tmp_path):
    path = tmp_path / "one.py"
    path.write_text(
        '"""A file."""\n'
        "def long(x):\n"
        '    """Says.\n\n    More.\n    """\n'
        "    def inner():\n        return x\n\n    return inner\n"
        "class Kind:\n"
        "    def said(self):\n"
        '        """Nothing but this."""\n'
        "    def _own(self):\n        pass\n"
    )
    tree = parsed(path)
    found = {node.name: lines(node) for node in ast.walk(tree) if isinstance(node, FUNCTION)}
    assert found == {"long": 4, "inner": 1, "said": 0, "_own": 1}
    assert [getattr(node, "name", "") for node in public(tree)] == ["", "long", "Kind", "said"]
