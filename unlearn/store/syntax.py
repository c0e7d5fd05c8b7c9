"""What a source file says to Python: its syntax tree, without what changes no result.

Comments, blank lines, docstrings and what stands under ``if TYPE_CHECKING`` are left out.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

WHOLE = ""
"""The name of the part that is the whole file."""

Reference = tuple[str, str]
"""A module and a name in it; the name is empty where the module itself is meant."""


class Part(NamedTuple):
    """A source file, or one of its definitions.

    Attributes:
        digest: Changes with its syntax tree.
        references: What it takes from modules, of any package.
    """

    digest: str
    references: tuple[Reference, ...]


def whole(source: bytes, package: str = "") -> Part:
    """A source file, with everything that it imports anywhere.

    Arguments:
        package: What its relative imports are relative to.

    Raises:
        SyntaxError: If it is no Python.
    """
    tree = ast.parse(source)
    return Part(_digest([tree]), tuple(sorted({ref for _, ref in _imports(tree, package)})))


def definitions(source: bytes, module: str) -> dict[str, Part]:
    """Each definition of a source file by itself, with what it takes from elsewhere in its own file as well.

    What annotations say is no reference: it is not run. What stands at the top and defines nothing belongs to
    no definition.

    Arguments:
        module: The file's own name.

    Raises:
        SyntaxError: If it is no Python.
    """
    tree = ast.parse(source)
    nodes: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        for name in _defined(node):
            nodes.setdefault(name, []).append(node)
    known = {name: (module, name) for name in nodes} | dict(_imports(tree))
    return {name: Part(_digest(found), _references(found, known)) for name, found in nodes.items()}


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _imports(tree: ast.AST, package: str = "") -> Iterator[tuple[str, Reference]]:
    """The name that each import binds, and what it stands for."""
    for node in _run(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], (alias.name, "")
        elif isinstance(node, ast.ImportFrom) and (module := _absolute(node, package)):
            for alias in node.names:
                yield alias.asname or alias.name, (module, alias.name)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The full name of what is imported from."""
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    return ".".join([*parents[: len(parents) - node.level + 1], *([node.module] if node.module else [])])


def _references(nodes: Iterable[ast.AST], known: Mapping[str, Reference]) -> tuple[Reference, ...]:
    found: set[Reference] = set()
    for root in nodes:
        for node in _run(root, annotations=False):
            if isinstance(node, ast.Name) and node.id in known:
                found.add(known[node.id])
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module, name = known.get(node.value.id, ("", ""))
                if module:  # of a module that was imported by its name, one definition
                    found.add((f"{module}.{name}" if name else module, node.attr))
    return tuple(sorted(found))


def _run(tree: ast.AST, annotations: bool = True) -> Iterator[ast.AST]:
    """All nodes that are run."""
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        yield node
        for name, child in _children(node):
            if annotations or name not in ("annotation", "returns"):
                nodes.append(child)


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name in node._fields:
        value = getattr(node, name, None)
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST) and not _is_idle(child):
                yield name, child


def _is_idle(node: ast.AST) -> bool:
    """Whether a node does nothing when it is run: a docstring, or what only type checkers see."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not node.orelse


def _digest(nodes: Iterable[ast.AST]) -> str:
    words: list[str] = []
    for node in nodes:
        _spell(node, words)
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:32]


def _spell(node: ast.AST, words: list[str]) -> None:
    """The tree as words. Fields that hold nothing are left out: versions of Python have more or fewer."""
    words.append(type(node).__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        if value is None or value == []:
            continue
        words.append(name)
        for item in value if isinstance(value, list) else (value,):
            if not isinstance(item, ast.AST):
                words.append(repr(item))
            elif not _is_idle(item):
                _spell(item, words)
        words.append("]")
    words.append(")")
