"""Prompts and concepts."""

from importlib.resources import files
from pathlib import Path

import pytest

from unlearn.concepts.choice import ConceptChoice
from unlearn.concepts.concept import PROMPT_TEMPLATES, ROLES, Concept, ConceptSet, PromptSet, read_prompts
from unlearn.concepts.sentences import packaged_sentences, with_article
from unlearn.errors import ConfigError

CSV = (
    'role,prompt,seed,shows\nplain,"a church, at night",7,church\n'
    "unrelated,a cat,8,cat\nplain,a church,9,church\n"
)
PACKAGED = (
    sorted(
        entry.name.removesuffix(".csv")
        for entry in (files("unlearn").joinpath("data", "prompts")).iterdir()
        if entry.name.endswith(".csv")
    )
    if files("unlearn").joinpath("data", "prompts").is_dir()
    else []
)


def concept(**changes):
    values = {
        "kind": "object",
        "phrases": ["church", "chapel"],
        "anchor": "house",
        "retain": ["castle"],
        "prompts": None,
        "detector": "judge",
        "labels": ["church"],
    }
    return Concept(**(values | changes))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "church.csv").write_text(CSV)
    return tmp_path


def test_reads_a_prompt_file(folder):
    prompts = ConceptSet(erase={"church": concept(prompts="church")}).prompt_set("plain", [folder])
    assert prompts.prompts == ("a church, at night", "a church")
    assert prompts.seeds == (7, 9)
    assert prompts.shows == ("church", "church")
    assert prompts.concepts == ("church", "church")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "column role, prompt, seed, shows is missing"),
        ("role,prompt,seed\nplain,a church,1\n", "column shows is missing, got role, prompt, seed"),
        ("role,prompt,seed,shows\n", "the prompt set is empty"),
        ("role,prompt,seed,shows\nplain,a church,x,church\n", "row 2: seed must be .* got 'x'"),
        ("role,prompt,seed,shows\nplain,a church,-1,church\n", "row 2: seed must be .* got '-1'"),
        (f"role,prompt,seed,shows\nplain,a church,{2**63},church\n", "row 2: seed must be"),
        (
            "role,prompt,seed,shows\nplane,a church,1,church\n",
            "row 2: Unknown role 'plane'. Did you mean 'plain'",
        ),
        ("role,prompt,seed,shows\nplain, ,1,church\n", "row 2: the prompt is empty"),
        ("role,prompt,seed,shows\nplain,a church, at night,1,church\n", "row 2: must have 4 fields"),
        ("role,prompt,seed,shows\nplain,a church\n", "row 2: must have 4 fields"),
        ('role,prompt,seed,shows\nplain,"a church,1,church\n', "cannot be read as CSV"),
    ],
)
def test_wrong_prompt_files_are_refused(tmp_path, text, said):
    (tmp_path / "church.csv").write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_prompts("church", [tmp_path])


def test_a_prompt_file_is_read_once_and_again_when_it_changes(folder, monkeypatch):
    opened = []
    open_file = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *given, **more: opened.append(self) or open_file(self, *given, **more)
    )
    concepts = ConceptSet(erase={"church": concept(prompts="church")})
    for role in ("plain", "synonym", "plain"):
        concepts.prompt_set(role, [folder])
    assert opened == [folder / "church.csv"]
    (folder / "church.csv").write_text("role,prompt,seed,shows\nplain,a chapel,1,church\n")
    assert concepts.prompt_set("plain", [folder]).prompts == ("a chapel",)
    (folder / "church.csv").write_text("role,prompt,seed,shows\nplain,a temple,1,church\n")
    assert concepts.prompt_set("plain", [folder]).prompts == ("a temple",)


def test_no_more_than_asked_for_is_looked_at(tmp_path, monkeypatch):
    rows = "".join(f"neighbour,a castle {i},{i},castle\n" for i in range(50))
    for name in ("church", "chapel"):
        (tmp_path / f"{name}.csv").write_text(f"role,prompt,seed,shows\nplain,a {name},1,x\n{rows}")
    concepts = ConceptSet(
        erase={n: concept(prompts=n, phrases=[n], labels=[n]) for n in ("church", "chapel")}
    )
    heard = []
    monkeypatch.setattr("unlearn.concepts.concept.spoken", lambda text: heard.append(text) or f" {text} ")
    few = concepts.prompt_set("neighbour", [tmp_path], 3)
    assert len([text for text in heard if "castle" in text]) == 4  # both concepts in turn
    whole = concepts.prompt_set("neighbour", [tmp_path])
    assert few == whole.limited(3)
    assert concepts.prompt_set("neighbour", [tmp_path], 3, each=True) == whole.limited(3, each=True)
    assert concepts.prompt_set("plain", [tmp_path], 1, each=True).prompts == ("a church", "a chapel")


@pytest.mark.parametrize("seed", ["9" * 5000, "\N{SUPERSCRIPT TWO}", "", "1.0"])
def test_a_seed_that_is_none_is_refused(tmp_path, seed):
    (tmp_path / "church.csv").write_text(f"role,prompt,seed,shows\nplain,a church,{seed},church\n")
    with pytest.raises(ConfigError, match="row 2: seed must be a whole number"):
        read_prompts("church", [tmp_path])


def test_names_the_nearest_prompt_set(folder):
    with pytest.raises(ConfigError, match=r"Unknown prompt set 'chuch'. Did you mean 'church'"):
        read_prompts("chuch", [folder])
    with pytest.raises(ConfigError, match=r"paths.prompts: there is no folder .*nowhere"):
        read_prompts("church", [folder / "nowhere"])


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_prompt_set_loads(name):
    found = read_prompts(name)
    for role in ROLES:
        rows = [(prompt, seed) for prompt, seed, _ in found[role]]
        assert rows, f"{name} has no prompts of role {role}"
        assert len(rows) == len(set(rows)), f"{name} repeats a prompt of role {role}"


def test_large_seeds_survive(tmp_path):
    (tmp_path / "big.csv").write_text(f"role,prompt,seed,shows\nplain,a,{2**63 - 1},x\n")
    assert list(read_prompts("big", [tmp_path])["plain"]) == [("a", 2**63 - 1, "x")]


def test_templates_say_the_phrase_and_its_other_words():
    concepts = ConceptSet(erase={"church": concept()})
    plain, synonym = concepts.prompt_set("plain"), concepts.prompt_set("synonym")
    assert all("church" in prompt for prompt in plain.prompts)
    assert all("chapel" in prompt and "church" not in prompt for prompt in synonym.prompts)
    assert {"castle"} == set(concepts.prompt_set("neighbour").shows)
    assert len(concepts.prompt_set("implicit")) == 0
    assert len(set(zip(plain.prompts, plain.seeds, strict=True))) == len(plain)
    assert (
        "church"
        not in ConceptSet(erase={"cat": concept(phrases=["cat"], labels=["cat"])})
        .prompt_set("unrelated")
        .shows
    )


@pytest.mark.parametrize("kind", ["object", "style", "nudity", "violence", "character"])
def test_every_kind_has_plain_prompts_from_templates(kind):
    prompts = ConceptSet(erase={"it": concept(kind=kind, phrases=["oddity"])}).prompt_set("plain")
    assert len(prompts) >= 64
    assert all("oddity" in prompt for prompt in prompts.prompts)


def test_methods_meet_phrases_anchor_and_retained_in_the_templates():
    church = concept(phrases=["church"], anchor="oak", retain=["castle"], templates=["{a} by noto", "one {}"])
    assert church.pairs == [("a church by noto", "an oak by noto"), ("one church", "one oak")]
    castle = concept(phrases=["castle"], labels=["castle"], retain=["house"])
    concepts = ConceptSet(erase={"church": church, "castle": castle})
    assert concepts.erased == ["a church by noto", "one church", "castle"]
    assert concepts.retained == ["house"]  # castle is erased: no sentence with it is retained
    with pytest.raises(ValueError, match="templates: each must be a text with"):
        concept(templates=["a photo"])


def test_a_concept_without_sentences_of_its_own_gets_those_of_its_kind():
    church = concept(phrases=["church", "Notre Dame"], anchor="house")
    assert church.sentences == list(packaged_sentences()["object"])
    assert len(church.sentence_pairs()) == 60
    pairs = church.sentence_pairs(2)
    assert pairs == [
        ("a photo of a church", "a photo of a house"),
        ("a church", "a house"),
        ("a photo of Notre Dame", "a photo of a house"),
        ("Notre Dame", "a house"),
    ]
    own = concept(phrases=["church"], templates=["{a} by noto", "one {}"])
    assert own.sentences == own.templates
    assert own.sentence_pairs() == own.pairs
    both = ConceptSet(erase={"church": church, "own": own})
    assert both.retained == ["castle", "a castle by noto", "one castle"]
    assert both.retained_sentences(1) == ["a photo of a castle", "a castle by noto"]


@pytest.mark.parametrize("kind", PROMPT_TEMPLATES)
def test_packaged_sentences(kind):
    templates = packaged_sentences()[kind]
    assert len(templates) == len(set(templates)) == 30
    concept(templates=list(templates))  # each has a place for the phrase
    assert set(packaged_sentences()) == set(PROMPT_TEMPLATES)


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("church", "a church"),
        ("apple", "an apple"),
        ("the sun", "the sun"),
        ("Santa Claus", "Santa Claus"),
        ("swords", "swords"),
        ("cactus", "a cactus"),
        ("dress", "a dress"),
        ("English springer", "an English springer"),
        ("by fluent", "by fluent"),
        ("in the style of van gogh", "in the style of van gogh"),
        ("", ""),
    ],
)
def test_articles(phrase, said):
    assert with_article(phrase) == said


def test_what_another_concept_erases_is_no_neighbour():
    church, castle = concept(), concept(phrases=["castle"], labels=["castle"], retain=["church", "house"])
    both = ConceptSet(erase={"church": church, "castle": castle})
    assert both.retained == ["house"]
    assert both.phrases == ["church", "chapel", "castle"]
    assert set(both.prompt_set("neighbour").shows) == {"house"}
    assert both.prompt_set("plain").limited(4).concepts == ("church", "castle", "church", "castle")


def test_fingerprint_follows_prompts_and_seeds_only():
    prompts = PromptSet("plain", ("a", "b"), (1, 2), ("x", "y"), ("c", "c"))
    assert prompts.fingerprint() == PromptSet("other", ("a", "b"), (1, 2), ("", ""), ("d", "d")).fingerprint()
    assert (
        prompts.fingerprint() != PromptSet("plain", ("a", "b"), (1, 3), ("x", "y"), ("c", "c")).fingerprint()
    )
    assert (
        prompts.fingerprint() != PromptSet("plain", ("b", "a"), (1, 2), ("x", "y"), ("c", "c")).fingerprint()
    )


def test_another_seed_gives_other_noise():
    prompts = PromptSet("plain", ("a", "b"), (1, 2), ("x", "y"), ("c", "c"))
    assert prompts.reseeded(0) == prompts
    assert not set(prompts.reseeded(1).seeds) & set(prompts.reseeded(2).seeds)
    assert prompts.reseeded(1).prompts == prompts.prompts


def test_refuses_what_is_no_concept():
    with pytest.raises(ValueError, match=r"kind: Unknown kind of concept 'objekt'. Did you mean 'object'"):
        concept(kind="objekt")
    with pytest.raises(ValueError, match="phrases: needs at least one"):
        concept(phrases=[])
    with pytest.raises(ValueError, match="labels: needs at least one"):
        concept(labels=[" "])
    with pytest.raises(ValueError, match="erase: needs at least one"):
        ConceptSet(erase={})
    with pytest.raises(ConfigError, match=r"Unknown world 'sdd'. Did you mean 'sd'"):
        ConceptChoice(name="church", worlds={"sd": ConceptSet(erase={"church": concept()})}).world("sdd")


@pytest.mark.parametrize("name", PACKAGED)
def test_methods_are_not_given_every_neighbour(name):
    from unlearn.config.compose import composed
    from unlearn.config.resolve import resolve

    concepts = resolve(composed([f"concept={name}"]), here=False).concepts
    neighbours = {label.lower() for label in concepts.prompt_set("neighbour").shows}
    given = {sentence.lower() for sentence in concepts.retained}
    left_out = {n for n in neighbours if not any(n in sentence for sentence in given)}
    assert left_out, neighbours
