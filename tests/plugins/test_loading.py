"""What comes from outside has a name like all else, or is refused in one line that names the file."""

import sys
from importlib import import_module
from importlib.metadata import EntryPoint

import pytest

from unlearn.catalogue import TABLES
from unlearn.commands.completion import candidates
from unlearn.config.compose import composed
from unlearn.config.resolve import resolve
from unlearn.errors import ConfigError
from unlearn.models.guards import GUARDS, Guard
from unlearn.plugins import folders, loading
from unlearn.plugins.folders import absolute, search
from unlearn.plugins.loading import load
from unlearn.plugins.spelling import snake
from unlearn.store import provenance

pytestmark = pytest.mark.usefixtures("forgetting")

HEAD = """
from dataclasses import dataclass
from typing import ClassVar
from unlearn.methods.method import Method
from unlearn.methods.none import Nothing
from unlearn.models.guards import Guard
"""
WHOLE = """
@dataclass(kw_only=True)
class Whole(Nothing):
    '''Does nothing.

    Attributes:
        steps: A number.
    '''

    steps: int = 3
"""

#: What a file holds, and what is said of it.
REFUSED = {
    "import": (
        "\nimport nothing_of_this_name",
        r"cannot be imported \(ModuleNotFoundError in .*\.py, line 2:",
    ),
    "syntax": ("def of(:", r"cannot be imported \(SyntaxError in .*\.py, line 1:"),
    "raises": (HEAD + "1 / 0", r"cannot be imported \(ZeroDivisionError in .*\.py, line 7: division by zero"),
    "nothing": (HEAD, "defines no class that extends one of Attack, "),
    "taken": (HEAD + WHOLE.replace("Whole", "ESD"), "the name 'esd' of a method is taken by unlearn"),
    "docstring": (
        HEAD + "@dataclass(kw_only=True)\nclass Bare(Nothing):\n    steps: int = 3",
        "Bare has no docstring",
    ),
    "requires": (
        HEAD + WHOLE + "    requires = frozenset({'cross_atention'})",
        "Whole.requires: Unknown feature 'cross_atention'. Did you mean 'cross_attention'?",
    ),
    "abstract": (
        HEAD + "@dataclass(kw_only=True)\nclass Half(Method):\n    '''Half.'''",
        "Half is incomplete: it lacks erase, paper",
    ),
    "dataclass": (HEAD + "class Plain(Nothing):\n    '''Plain.'''", "Plain must be a dataclass"),
    "guard": (
        HEAD + "class G(Guard, name='sld'):\n    pass",
        "guard: the name 'sld' of .* is taken by unlearn",
    ),
}


def written(folder, name, text):
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_used_is_refused_in_a_line_that_names_the_file(text, said, tmp_path, request):
    path = written(tmp_path, f"refused_{request.node.callspec.id}", text)
    with pytest.raises(ConfigError, match=said) as caught:
        load([f"plugins=[{path}]"])
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_must_be_there_and_be_called_like_no_other_module(tmp_path):
    with pytest.raises(ConfigError, match=r"plugins: there is no file '.*none\.py'"):
        load([f"plugins=[{tmp_path}/none.py]"])
    with pytest.raises(ConfigError, match="must be a Python file whose name is an identifier"):
        load([f"plugins=[{written(tmp_path, 'a-b', '')}]"])
    with pytest.raises(ConfigError, match=r"json\.py: .*another module has the name 'json'"):
        load([f"plugins=[{written(tmp_path, 'json', HEAD + WHOLE)}]"])


def test_yaml_may_not_take_a_name_either(tmp_path):
    path = written(tmp_path, "with_yaml", HEAD + WHOLE)
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "method" / "esd.yaml").write_text("defaults: [/schema/method/whole@_here_]")
    with pytest.raises(ConfigError, match=r"esd\.yaml: the name 'esd' of group method is taken by unlearn"):
        load([f"plugins=[{path}]"])


def test_a_class_is_its_own_configuration_until_there_is_a_file(tmp_path):
    word = f"plugins=[{written(tmp_path, 'outsider', HEAD + WHOLE)}]"
    config = resolve(composed([word, "method=whole", "method.steps=4", "tracker=none", "device=cpu"]))
    assert (type(config.method).__name__, config.method.steps) == ("Whole", 4)
    assert TABLES["method"]["whole"] is type(config.method)


def test_yaml_beside_a_file_and_an_experiment_that_names_it_are_found(tmp_path):
    path = written(tmp_path, "outsider", HEAD + WHOLE)
    for group, name, text in (
        ("method", "more", "defaults: [/schema/method/whole@_here_, _self_]\nsteps: 7"),
        ("method", "whole", "defaults: [/schema/method/whole@_here_, _self_]\nsteps: 5"),
    ):
        (tmp_path / "conf" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / group / f"{name}.yaml").write_text(text)
    word = f"plugins=['{path}']"
    assert composed([word, "method=more"]).method.steps == 7
    assert composed([word, "method=whole"]).method.steps == 5
    assert "method=more" in candidates(f"unlearn run {word} method=m")
    other = tmp_path / "other" / "experiment"
    other.mkdir(parents=True)
    (other / "try.yaml").write_text(
        f"# @package _global_\ndefaults: [{{override /method: more}}]\nplugins: ['{path}']"
    )
    loading._loaded.clear()
    del TABLES["method"]["whole"], loading.ORIGINS["method", "whole"]
    said = [f"hydra.searchpath=['file://{other.parent}']", "experiment=try"]
    assert composed(said).method.steps == 7


def test_a_file_that_is_named_where_nobody_looks_is_an_error(tmp_path):
    config = composed(["tracker=none", "device=cpu"])
    config.plugins = [str(written(tmp_path, "outsider", HEAD + WHOLE))]
    with pytest.raises(ConfigError, match=r"plugins: .*outsider\.py is named too late"):
        resolve(config)


def test_the_words_of_a_sweep_and_of_another_folder_are_understood(tmp_path):
    assert [path.name for path in search(["plugins=[a.py],[b.py,'c d.py']", "x=1", "-m"])] == [
        "a.py", "b.py", "c d.py",
    ]  # fmt: skip
    assert absolute(["plugins=[own/a.py]", "seed=1"], tmp_path) == [
        f"plugins=['{tmp_path}/own/a.py']",
        "seed=1",
    ]


def test_names_are_those_of_classes_in_small_letters():
    assert [snake(name) for name in ("Mine", "BlurEdges", "ESDStrict", "P4D")] == [
        "mine", "blur_edges", "esd_strict", "p4_d",
    ]  # fmt: skip


def test_an_installed_package_that_is_broken_is_named(monkeypatch):
    point = EntryPoint("broken", "nothing_of_this_name:Broken", "unlearn.methods")
    monkeypatch.setattr(loading, "announced", lambda: [("method", point)])
    loading._load_installed.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"^nothing_of_this_name:Broken of unknown: cannot be imported"):
            load()
    finally:
        loading._load_installed.cache_clear()


def test_a_guard_is_found_by_its_name_and_has_it_alone():
    class Own(Guard, name="own_of_a_test"):
        pass

    assert GUARDS["own_of_a_test"] is Own
    with pytest.raises(TypeError, match=r"the name 'own_of_a_test' of .* is taken by"):
        type("Other", (Guard,), {}, name="own_of_a_test")


LATE = (
    WHOLE
    + """
    def late(self):
        from helping_late import anything
        return anything()
"""
)


def code(word):
    """The digest of the code of an outside method, as another process would find it."""
    for name in ("followed", "helping", "helping_late"):
        sys.modules.pop(name, None)
    provenance._seen.clear()
    provenance._home.cache_clear()
    loading._loaded.clear()
    TABLES["method"].pop("whole", None)
    return provenance.made_by(composed_method(word))["code"]


def composed_method(word):
    return resolve(composed([word, "method=whole", "tracker=none", "device=cpu"])).method


@pytest.mark.parametrize("name", ["followed", "helping", "helping_late"])
def test_an_edit_of_a_file_or_of_what_it_imports_beside_it_makes_stale(tmp_path, name):
    path = written(tmp_path, "followed", HEAD + "from helping import much\n" + LATE)
    for helper in ("helping", "helping_late"):
        written(tmp_path, helper, "def much():\n    return 1\n\n\nanything = much")
    word = f"plugins=[{path}]"
    before = code(word)
    changed = tmp_path / f"{name}.py"
    changed.write_text(changed.read_text() + "\n# a comment changes nothing")
    assert code(word) == before
    changed.write_text(changed.read_text() + "\nADDED = 1")
    assert code(word) != before


def test_relative_imports_of_a_package_are_followed(tmp_path, monkeypatch):
    package = tmp_path / "of_a_package"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "method": HEAD + "from .parts import much\nfrom . import other\n" + WHOLE,
        "parts": "def much():\n    return 1",
        "other": "ANY = 1",
    }.items():
        written(package, name, text)
    monkeypatch.syspath_prepend(tmp_path)
    whole = import_module("of_a_package.method").Whole()
    reached = {module for module, _ in provenance.reached([whole])}
    assert {"of_a_package.method", "of_a_package.parts", "of_a_package.other"} <= reached


def test_folders_of_the_command_line_are_for_that_command_alone(tmp_path):
    search([f"hydra.searchpath=['file://{tmp_path}']"])
    assert [tmp_path] == folders.SAID
    search(["--config-dir", str(tmp_path)])
    assert [tmp_path] == folders.SAID
    search([])
    assert folders.SAID == []
