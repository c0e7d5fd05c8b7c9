"""Finding the mutants of a file in its syntax tree.

Left out are docstrings, annotations, sentences, what is raised (but not that it is), assertions, decorators
and the ranges of settings.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

from scripts.mutants.mutant import Mutant
from scripts.mutants.words import ASIDE, COUNTERS, EITHER_WAY, FUNCTIONS, OPERATORS, SAID, VARIABLES

OPERATOR = re.compile(rb"\b(?:not\s+in|is\s+not|and|or|in|is)\b|\*\*|//|<<|>>|[<>=!]=|[-+*/%@|&<>]")
NUMBERS = (ast.Mult, ast.Div, ast.Pow, ast.Sub, ast.FloorDiv)
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def mutants(file: str, source: bytes) -> list[Mutant]:
    """All mutants of a file, each once, in their order; some may not be :func:`valid`."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTION)]
    finder = _Finder(file, source, {"isinstance", *(one.name for one in functions if not one.args.defaults)})
    finder.visit(tree)
    distinct = {(one.start, one.end, one.text): one for one in finder.found}
    return [distinct[key] for key in sorted(distinct)]


def valid(mutant: Mutant, source: bytes) -> bool:
    """Whether it is Python, and other than what stands there."""
    try:
        return ast.dump(ast.parse(mutant.applied(source))) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str, source: bytes, whole: set[str]) -> None:
        """``whole`` are functions that go with no argument less."""
        self.file, self.source, self.whole, self.found = file, source, whole, list[Mutant]()
        self.starts = [0, *(match.end() for match in re.finditer(rb"\n", source))]
        self.inside, self.lines, self.names = False, (1, 1), set[str]()

    def start(self, node: ast.AST) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node: ast.AST) -> int:
        return self.starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.AST) -> str:
        return self.source[self.start(node) : self.end(node)].decode()

    def put(self, kind: str, start: int, end: int, text: str) -> None:
        self.found.append(Mutant(self.file, kind, start, end, text, self.lines if self.inside else None))

    def instead(self, kind: str, node: ast.AST, text: str) -> None:
        self.put(kind, self.start(node), self.end(node), text)

    def visit_all(self, nodes: list[ast.AST] | list[ast.expr] | list[ast.stmt]) -> None:
        for node in nodes:
            self.visit(node)

    @contextmanager
    def within(self, first: int, last: int, inside: bool | None = None) -> Iterator[None]:
        kept = self.lines, self.inside
        self.lines, self.inside = (first, max(first, last)), self.inside if inside is None else inside
        yield
        self.lines, self.inside = kept

    def visit(self, node: ast.AST) -> None:
        """Knows of every statement where it is, of a compound one without what it holds."""
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            with self.within(node.lineno, body[0].lineno - 1 if body else node.end_lineno or node.lineno):
                super().visit(node)
        else:
            super().visit(node)

    # Statements

    def visit_Function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.visit_all([default for default in [*node.args.defaults, *node.args.kw_defaults] if default])
        kept, self.names = self.names, _names(node)
        with self.within(*self.lines, inside=True):
            self.visit_all(node.body)
        self.names = kept

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.visit_all(node.body)

    def visit_Import(self, node: ast.AST) -> None:
        """Nothing of it."""

    visit_ImportFrom = visit_Assert = visit_Import

    def visit_Raise(self, node: ast.Raise) -> None:
        self.instead("left out", node, "pass")

    def visit_Continue(self, node: ast.AST) -> None:
        self.instead("left out", node, "pass")

    visit_Break = visit_Continue

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant) or _called(node.value) in SAID:
            return
        self.instead("left out", node, "pass")
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Subscript | ast.Attribute) for target in node.targets):
            self.instead("left out", node, "pass")
        self.visit_all([target for target in node.targets if isinstance(target, ast.Subscript)])
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.instead("left out", node, "pass")
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        self.condition(node.test)
        self.visit_all([node.test, *node.body, *node.orelse])

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_With(self, node: ast.With) -> None:
        self.visit_all([item.context_expr for item in node.items])
        self.visit_all(node.body)

    def condition(self, node: ast.expr) -> None:
        self.instead("condition turned round", node, f"not ({self.text(node)})")
        self.instead("never", node, f"False and ({self.text(node)})")

    # Expressions

    def visit_IfExp(self, node: ast.IfExp) -> None:
        body, test, orelse = self.text(node.body), self.text(node.test), self.text(node.orelse)
        self.instead("branches swapped", node, f"{orelse} if {test} else {body}")
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self.visit(node.iter)
        for test in node.ifs:
            self.condition(test)
            self.instead("always", test, "True")
            self.visit(test)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in pairwise(node.values):
            self.operator(self.end(left), self.start(right))
            self.put("operand left out", self.start(left), self.start(right), "")
            self.put("operand left out", self.end(left), self.end(right), "")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, right in pairwise([node.left, *node.comparators]):
            self.operator(self.end(left), self.start(right))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not isinstance(node.op, ast.Add) or _counts(node):
            self.operator(self.end(node.left), self.start(node.right))
        else:
            self.instead("operand left out", node, self.text(node.left))
            self.instead("operand left out", node, self.text(node.right))
        self.generic_visit(node)

    def operator(self, start: int, end: int) -> None:
        """The operator between two operands, of which nothing but brackets and spaces is left beside it."""
        if match := OPERATOR.search(self.source, start, end):
            word = " ".join(match[0].decode().split())
            for other in OPERATORS[word]:
                self.put(f"{word} becomes {other}", *match.span(), other)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        sign = 4 if isinstance(node.op, ast.Not) else 1
        self.put("sign left out", self.start(node), self.start(node) + sign, "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.instead("constant", node, str(not value))
        elif isinstance(value, int):
            self.instead("constant", node, str(value + 1))
        elif isinstance(value, float):
            self.instead("constant", node, repr(2 * value if value else 1.0))
        elif isinstance(value, str) and " " not in value:
            self.instead("string", node, repr(f"XX{value}"))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        text = self.text(node)
        if " " not in text and "\n" not in text:
            at = self.start(node) + re.search("[\"']", text).end()  # type: ignore[union-attr]
            self.put("string", at, at, "XX")

    def visit_Name(self, node: ast.Name) -> None:
        other = FUNCTIONS.get(node.id) or VARIABLES.get(node.id, "")
        if isinstance(node.ctx, ast.Load) and (other in self.names or hasattr(builtins, other)):
            self.instead("one for the other", node, other)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load) and (other := FUNCTIONS.get(node.attr)):
            self.put("one for the other", self.end(node) - len(node.attr), self.end(node), other)
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if _called(node) in SAID:
            return
        plain = [one for one in node.args if not isinstance(one, ast.Starred | ast.GeneratorExp)]
        if len(plain) >= 2:
            one, other = plain[:2]
            between = self.source[self.end(one) : self.start(other)].decode()
            swapped = f"{self.text(other)}{between}{self.text(one)}"
            if _called(node) not in EITHER_WAY:
                self.put("arguments swapped", self.start(one), self.end(other), swapped)
            if _called(node) not in self.whole:
                self.put("argument left out", self.end(plain[-2]), self.end(plain[-1]), "")
        given = [one for one in node.keywords if one.arg not in ASIDE]
        for keyword in given:
            if keyword.arg and not isinstance(keyword.value, ast.Constant):
                self.instead("argument is None", keyword.value, "None")
        self.visit_all([node.func, *node.args, *(one.value for one in given)])

    def visit_Dict(self, node: ast.Dict) -> None:
        pairs = zip(node.keys, node.values, strict=True)
        self.entries(
            [(self.start(key) if key else self.start(value) - 2, self.end(value)) for key, value in pairs]
        )
        self.generic_visit(node)

    def visit_List(self, node: ast.List) -> None:
        if isinstance(getattr(node, "ctx", None), ast.Load | None):
            self.entries([(self.start(one), self.end(one)) for one in node.elts])
        self.generic_visit(node)

    visit_Set = visit_List

    def entries(self, spans: list[tuple[int, int]]) -> None:
        """Leaves out one after the other, with the comma behind it or, of the last, before it."""
        for number, (start, end) in enumerate(spans):
            if number + 1 < len(spans):
                self.put("entry left out", start, spans[number + 1][0], "")
            else:
                self.put("entry left out", spans[number - 1][1] if number else start, end, "")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.slice, ast.Name) and node.slice.id in COUNTERS:
            self.instead("off by one", node.slice, f"{node.slice.id} - 1")
        for part in [node.slice, *getattr(node.slice, "elts", [])]:
            if isinstance(part, ast.Slice):
                for end in (part.lower, part.upper):
                    if end is not None and not isinstance(end, ast.Constant):
                        self.instead("off by one", end, f"{self.text(end)} - 1")
        self.generic_visit(node)


def _called(node: ast.AST) -> str:
    """The name of what is called, if anything is."""
    function = getattr(node, "func", None)
    return getattr(function, "id", getattr(function, "attr", ""))


def _names(node: ast.AST) -> set[str]:
    """The variables of a function."""
    return {
        one.id if isinstance(one, ast.Name) else one.arg
        for one in ast.walk(node)
        if isinstance(one, ast.Name | ast.arg)
    }


def _counts(node: ast.AST) -> bool:
    """Whether a number stands in it, so that it is no sum of lists."""
    return any(
        (isinstance(one, ast.Constant) and isinstance(one.value, int | float)) or isinstance(one, NUMBERS)
        for one in ast.walk(node)
    )
