"""Nothing of a library is used that the library does not offer: such names go without notice."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(
    path.relative_to(ROOT)
    for folder in ("unlearn", "scripts", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
OURS = {"unlearn", "scripts", *(path.stem for path in FILES if path.parts[0] == "tests")}

#: Modules that a library keeps for itself though their names do not say so.
INTERNAL = {"transformers.masking_utils", "transformers.modeling_utils", "hydra.core.utils", "omegaconf.base"}

#: Names with an underscore that the standard library documents.
DOCUMENTED = {"_asdict", "_exit", "_fields", "_make", "_replace"}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def own_names(trees):
    """Every private name that our own code gives to something."""
    found = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) in ("self", "cls")
            ):
                found.add(node.attr)
    return {name for name in found if is_private(name)}


def private_uses(tree, own):
    """What ``tree`` imports or reads that belongs to a library's inside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            modules = []
        for module in modules:
            if module.split(".")[0] not in OURS and (
                any(map(is_private, module.split("."))) or module in INTERNAL
            ):
                yield module
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            yield ast.unparse(node)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr", "setattr")
            and isinstance(name := node.args[1], ast.Constant)
            and is_private(name.value)
            and name.value not in own
        ):
            yield ast.unparse(node)


@pytest.fixture(scope="module")
def trees():
    return {path: ast.parse((ROOT / path).read_text(encoding="utf-8")) for path in FILES}


def test_nothing_private_of_a_library_is_used(trees):
    own = own_names(trees.values())
    found = [f"{path}: {use}" for path, tree in trees.items() for use in private_uses(tree, own)]
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "import torch._dynamo",
        "from hydra._internal.utils import get_args_parser",
        "from transformers.masking_utils import create_causal_mask",
        "from transformers import masking_utils",
        "from torchmetrics.image.fid import _compute_fid",
        "torch._foreach_lerp_(a, b, 0.5)",
        "child = node._get_node(key)",
        "hooks = getattr(module, '_forward_hooks')",
    ],
)
def test_a_private_use_is_seen(line, trees):
    assert list(private_uses(ast.parse(line), own_names(trees.values())))


@pytest.mark.parametrize(
    "line", ["rows = each._asdict()", "from unlearn.config.identity import _described", "self.__dict__"]
)
def test_what_is_ours_or_documented_is_none(line, trees):
    assert not list(private_uses(ast.parse(line), own_names(trees.values())))
