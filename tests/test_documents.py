"""What the documents name is there: paths, links, commands, functions; and their examples do what is said."""

import ast
import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from attack_cases import PLAIN, random_tokens, target_of

from unlearn.catalogue import TABLES
from unlearn.commands import COMMANDS
from unlearn.concepts.concept import Concept, ConceptSet
from unlearn.methods.method import Context, Meter
from unlearn.seeding import generator

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in [
        *(ROOT / name for name in ("CONTRIBUTING.md", "README.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
    ]
)
ARCHITECTURE = ROOT / "docs" / "architecture.md"
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))

TOPS = r"\.github|conf|docs|examples|requirements|scripts|tests|unlearn"
#: A path from the root; what is in angle brackets stands for any name.
PATH = re.compile(rf"(?<![\w/.-])(?:{TOPS})/[\w./*<>-]+")
LINK = re.compile(r"\]\((?!\w+:)([^)#]+)")
MAKE = re.compile(r"\bmake ((?:[a-z<>-]+ )*[a-z<>-]+)")
WORD = re.compile(r"\bunlearn ([a-z]+)")
MODULE = re.compile(r"-m (scripts[\w.]*)")
STEP = re.compile(r"^\d+\. `([\w/.]+\.py)`: (.*)$", re.MULTILINE)


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def code(path):
    """All that a document shows as code, without comments of a shell."""
    fences = re.findall(r"^```\w*\n(.*?)^```", text(path), re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text(path), flags=re.MULTILINE | re.DOTALL)
    spans = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", rest)]
    return [re.sub(r"\s+#.*", "", line) for block in fences for line in block.splitlines()] + spans


def diffs(path):
    """The parts of a document's diffs, by their file and whether it is new."""
    found = {}
    for block in re.findall(r"^```diff\n(.*?)^```", text(path), re.MULTILINE | re.DOTALL):
        for piece in re.split(r"^--- ", block, flags=re.MULTILINE)[1:]:
            old, new, *lines = piece.splitlines()
            parts = [part.strip("\n").splitlines() for part in "\n".join(lines).split("@@\n")[1:]]
            assert old.strip() in ("/dev/null", new.removeprefix("+++ ").replace("b/", "a/", 1))
            found.setdefault((new.removeprefix("+++ b/"), old == "/dev/null"), []).extend(parts)
    return found


EXAMPLES = {name: parts for (name, fresh), parts in diffs("CONTRIBUTING.md").items() if fresh}


def added(name):
    """The whole of a file that an example adds."""
    (part,) = EXAMPLES[name]
    assert all(line.startswith("+") for line in part)
    return "\n".join(line[1:] for line in part) + "\n"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_path_is_there(document):
    missing = []
    for found in PATH.findall(text(document)):
        path = found.rstrip(".")
        theirs = Path(path).stem == "mine"  # a reader's own
        if "<" not in path and not theirs and path not in EXAMPLES and not list(ROOT.glob(path.rstrip("/"))):
            missing.append(path)
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_leads_somewhere(document):
    here = (ROOT / document).parent
    assert not [link for link in LINK.findall(text(document)) if not (here / link).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_is_there(document):
    rules = re.findall(r"^([\w%-]+):", text("Makefile"), re.MULTILINE)
    targets = [re.compile(re.escape(rule).replace("%", ".+")) for rule in rules]
    lines = code(document)
    made = [target for line in lines for said in MAKE.findall(line) for target in said.split()]
    assert not [target for target in made if not any(rule.fullmatch(target) for rule in targets)]
    words = [word for line in lines for word in WORD.findall(line)]
    assert not set(words) - {*COMMANDS, "complete"}
    modules = {module.replace(".", "/") for line in lines for module in MODULE.findall(line)}
    assert not [each for each in modules if not list(ROOT.glob(f"{each}.py")) + list(ROOT.glob(each))]


def test_the_documents_are_read():
    assert Path("CONTRIBUTING.md") in DOCUMENTS
    contributing, readme = code("CONTRIBUTING.md"), code("README.md")
    assert any(MAKE.findall(line) == ["check"] for line in contributing)
    assert {word for line in readme for word in WORD.findall(line)} >= {"run", "report", "export", "list"}
    assert "tests/test_shape.py" in PATH.findall(text("CONTRIBUTING.md"))
    assert PATH.findall("(`unlearn/a.py`, /else/tests/b, x.unlearn/c") == ["unlearn/a.py"]


def functions(path):
    """The source of each function of a file, by its name, with its class before it."""
    source = text(path)
    tree = ast.parse(source)
    owners = [("", tree), *((f"{node.name}.", node) for node in tree.body if isinstance(node, ast.ClassDef))]
    return {
        f"{owner}{node.name}": ast.get_source_segment(source, node)
        for owner, parent in owners
        for node in parent.body
        if isinstance(node, ast.FunctionDef)
    }


def test_a_stranger_finds_the_line_in_five_files():
    """Each function of the walk is there and calls the next one; the last has the line."""
    walk = STEP.findall(text(ARCHITECTURE))
    assert 3 <= len(walk) <= 5
    steps = []
    for path, said in walk:
        own = functions(path)
        names = re.findall(r"`([\w.]+)`", said.partition(":")[0])
        assert names
        assert not [name for name in names if name not in own], path
        steps += [(name, own[name]) for name in names]
    for (_, source), (name, _) in pairwise(steps):
        assert re.search(rf"\b{name.rpartition('.')[2]}\(", source), f"nothing before it calls {name}"
    (line,) = re.findall(r"^    (\w+ = .*)$", text(ARCHITECTURE), re.MULTILINE)
    assert f"    {line}\n" in steps[-1][1]


def test_every_decision_is_listed_and_takes_a_page_at_most():
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    assert len(DECISIONS) >= 10
    for path in DECISIONS:
        page = path.read_text(encoding="utf-8")
        assert f"({path.name})" in index
        assert page.startswith(f"# {path.name[:2]}. ")
        headings = re.findall(r"^\*\*(Question|Decided|Why|What it costs|Think again)\b", page, re.MULTILINE)
        assert headings == ["Question", "Decided", "Why", "What it costs", "Think again"], path.name
        assert len(page.splitlines()) <= 50, path.name


def test_the_examples_fit_the_files_that_they_change():
    for (name, fresh), parts in diffs("CONTRIBUTING.md").items():
        if fresh:
            assert not (ROOT / name).exists(), f"{name} is there: the example needs another name"
            continue
        for part in parts:
            before = "\n".join(line[1:] for line in part if not line.startswith("+"))
            assert before in text(name), f"{name} has changed: {before}"


def test_the_files_that_the_examples_add_are_what_they_should_be():
    for name in EXAMPLES:
        if name.endswith(".py"):
            compile(added(name), name, "exec")
        else:
            group, own = Path(name).parts[1], Path(name).stem
            first, *_ = yaml.safe_load(added(name))["defaults"]
            assert group in TABLES
            assert re.fullmatch(rf"/schema/{group}/\w+@_here_", first), own


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Imports a file that an example adds."""
    monkeypatch.syspath_prepend(tmp_path)

    def load(name):
        path = tmp_path / f"example_{Path(name).name}"
        path.write_text(added(name), encoding="utf-8")
        return import_module(path.stem)

    return load


def test_the_worked_example_erases(tiny, tmp_path, monkeypatch, example):
    kind = example("unlearn/methods/closed_form/project_out.py").ProjectOut
    values = yaml.safe_load(added("conf/method/project_out.yaml"))
    assert values.pop("defaults")
    method = kind(**values)
    monkeypatch.setattr("method_cases.configured", lambda name: {"project_out": method}[name])
    own = example("tests/methods/closed_form/test_project_out.py")
    context = Context(0, tmp_path, lambda _values, _step: None, progress=False, meter=Meter(tiny))
    own.test_keys_and_values_see_nothing_of_the_concept(tiny, context)
    with pytest.raises(ValueError, match="strength: must be above 0 and at most 1, got 2"):
        kind(**{**values, "strength": 2})


def test_the_attack_of_the_examples_is_one(tiny, example):
    kind = example("unlearn/attacks/suffix_tokens.py").SuffixTokens
    attack = kind(
        **vars(random_tokens()),
    )
    assert not attack.control
    found = attack.attack(target_of(tiny), PLAIN, generator(0))
    assert len(found.prompts.prompts) == len(PLAIN)


def test_the_concept_of_the_examples_resolves():
    blocks = re.findall(r"^```yaml\n(.*?)^```", text("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    (worlds,) = (found["worlds"] for block in blocks if "worlds" in (found := yaml.safe_load(block)))
    assert worlds.keys() == {"pocket", "sd"}
    for world in worlds.values():
        concepts = ConceptSet(erase={name: Concept(**own) for name, own in world["erase"].items()})
        assert len(concepts.prompt_set("plain"))
        assert len(concepts.prompt_set("neighbour"))


def test_a_commit_is_checked_by_what_make_calls():
    (local,) = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert local["repo"] == "local"
    for hook in local["hooks"]:
        (recipe,) = re.findall(rf"^{hook['id']}:.*\n\t(.*)$", text("Makefile"), re.MULTILINE)
        assert hook["entry"] == recipe.replace("$(BIN)", ".venv/bin")
    assert [hook["id"] for hook in local["hooks"]] == ["format-check", "lint", "type"]
