"""Every file in ``conf/`` and every mistake that a user may make."""

from dataclasses import fields
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from unlearn.catalogue import TABLES
from unlearn.commands import files
from unlearn.commands.check import ALONE, PLACES
from unlearn.commands.diagnosis import diagnose
from unlearn.commands.show import meanings
from unlearn.config.compose import composed
from unlearn.config.resolve import resolve
from unlearn.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"


def test_every_file_is_met():
    found = {path.relative_to(CONF).parts[0] for path in CONF.rglob("*.yaml")}
    by_others = {"run.yaml", "hydra", "templates"}  # concepts take their templates from there
    assert found - by_others == {*ALONE, *PLACES}


@pytest.mark.parametrize("group", sorted(set(TABLES)))
def test_every_class_has_a_file_and_says_what_its_settings_mean(group):
    configured = {files.schema(group, name) for name in files.options(group)}
    assert set(TABLES[group]) <= configured
    for cls in TABLES[group].values():
        missing = {f.name for f in fields(cls)} - set(meanings(cls))
        assert not missing, f"{cls.__name__}: {missing} stand in no Attributes section"


def said_of(words):
    """What a user reads: of what does not compose, what is found by taking it apart."""
    try:
        config = composed(words)
    except ConfigError:
        return diagnose(words)
    with pytest.raises(ConfigError) as caught:
        resolve(config, here=False)
    return str(caught.value)


MISTAKES = {
    "option": (["method=esdd"], "method: Unknown method 'esdd'. Did you mean 'esd"),
    "key of a part": (
        ["method=esd", "method.lr=3"],
        "method.lr: Unknown key 'lr'. Did you mean 'method.optimizer.lr'?",
    ),
    "key of a wording": (
        ["concept=church", "concept.phrases=[chapel]"],
        "concept.phrases: Unknown key 'phrases'. Did you mean 'concept.worlds.pocket.erase.church.phrases'?",
    ),
    "key of a concept": (
        ["concept=church", "concept.retainn=[]"],
        "Unknown key 'retainn'. Did you mean 'retain'?",
    ),
    "key of several concepts": (
        ["concept=sequence", "concept.retainn=[]"],
        "Unknown key 'retainn'. Known: name, sequence, worlds.",
    ),
    "dead key": (
        ["method=rece", "method.start.parameter=x"],
        "Unknown key 'parameter'. Known: erase_scale, guide,",
    ),
    "group": (["metod=esd"], "metod: Unknown key 'metod'. Did you mean 'method'?"),
    "key": (["method=esd", "method.stepss=3"], "method.stepss: Unknown key 'stepss'. Did you mean 'steps'?"),
    "nested key": (["method=esd", "method.optimizer.lrr=3"], "method.optimizer.lrr: Unknown key 'lrr'."),
    "added key": (["method=esd", "+method.lrr=3"], "method.lrr: Unknown key 'lrr'."),
    "forced key": (["method=esd", "++method.lrr=3"], "method.lrr: Unknown key 'lrr'."),
    "type": (["method=esd", "method.optimizer.lr=abc"], "method.optimizer.lr: Value 'abc'"),
    "range": (["method=esd", "method.optimizer.lr=-1"], "method.optimizer.lr: must be"),
    "missing value": (["concept=custom"], "concept.name: needs a value"),
    "seed": (["seed=-1"], "seeds.erase: must be from 0"),
    "role": (["+eval.prompts.plane=3"], "eval.prompts: Unknown role 'plane'. Did you mean 'plain'?"),
    "count": (["eval.prompts.plain=0"], "eval.prompts.plain: must be at least 1, got 0"),
    "detector": (["model.clip=pocket_clap"], "model.clip: Unknown detector 'pocket_clap'. Did you mean"),
    "objective": (["objective=erasd"], "objective: Unknown score 'erasd'. Did you mean 'erased'"),
    "tuning": (["objective=erased"], "objective: a sweeper that looks for the best setting tunes"),
    "split": (["eval.split=train"], "eval.split: Unknown split 'train'"),
    "too many": (
        ["concept=church", "eval.prompts.plain=65"],
        "eval.prompts.plain: asks for 65, and the half 'test' has 64; the 64 of 'dev' are not mixed",
    ),
    "tracker": (["tracker.mode=offlin"], "tracker.mode: Unknown mode 'offlin'. Did you mean 'offline'?"),
    "white box": (
        ["method=sld", "eval=robust"],
        "eval.attacks.p4d: P4D needs gradients, and SLD acts while sampling",
    ),
    "budget": (
        ["eval=robust", "eval.attacks.p4d.budget=50"],
        "eval.attacks.p4d.budget: one look, with what comes before it, takes ",
    ),
    "learned word": (
        ["method=safree", "+attack@eval.attacks.cce=cce"],
        "eval.attacks.cce: ConceptInversion needs gradients, and SAFREE acts while sampling",
    ),
    "resurgence": (
        ["+resurgence@eval.resurgence.x=guidance", "eval.resurgence.x.scales=[4.0]"],
        "eval.resurgence.x.scales: needs one besides the model's own, 4.",
    ),
    "resurgence steps": (
        ["+resurgence@eval.resurgence.x=relearn", "eval.resurgence.x.steps=[5,0]"],
        "eval.resurgence.x.steps: each must be at least 1, got [5, 0]",
    ),
    "no value": (["method"], "method: "),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named_with_their_key(words, message):
    assert message in said_of(words)


def test_all_mistakes_of_one_component_are_named_at_once():
    said = said_of(["method=uce", "method.ridge=-1", "+method.rigde=2", "+seeed=1"])
    assert "method.ridge: must be" in said
    assert "method.rigde: Unknown key 'rigde'. Did you mean 'ridge'?" in said
    assert "seeed: Unknown key 'seeed'. Did you mean 'seed'?" in said


def test_all_mistakes_are_named_at_once():
    words = ["method=esdd", "concept=chruch", "seeed=3", "eval.prompts.plain=0", "model.sampler.steps=many"]
    found = diagnose(words)
    for key in ("method", "concept", "seeed", "eval.prompts.plain", "model.sampler.steps"):
        assert f"\n  {key}: " in found


@pytest.mark.parametrize("name", ["gpus", "slurm"])
def test_a_launcher_says_what_to_install(name, monkeypatch):
    def lacking(_):
        raise PackageNotFoundError

    monkeypatch.setattr("unlearn.commands.diagnosis.version", lacking)
    said = f"hydra/launcher: {name} needs the package of the extra: pip install 'unlearn[{name}]'."
    assert said in diagnose([f"hydra/launcher={name}", "method=uce,rece", "-m"])


def test_a_file_that_is_named_on_the_line_is_checked_for_this_machine():
    with pytest.raises(ConfigError, match=r"model.source: there is no folder '/nowhere'"):
        resolve(composed(["model.source=/nowhere"]))


def test_the_signature_leaves_out_what_changes_no_number():
    from unlearn.config.identity import signature

    base = signature(composed([]))
    for words in (
        ["device=cpu"],
        ["tracker=none"],
        ["outputs=elsewhere"],
        ["model.sampler.batch_size=3"],
        ["seeds.erase=0"],
    ):
        assert signature(composed(words)) == base, words
    for words in (["seed=1"], ["method=uce"], ["model.sampler.steps=3"], ["eval=quick"]):
        assert signature(composed(words)) != base, words


def test_values_may_depend_on_the_world():
    for model, steps in (("pocket", 20), ("sd1.4", 50)):
        config = composed([f"model={model}", "method=esd"])
        assert config.method.sampler.steps == steps


@pytest.mark.parametrize("line", ["", "method=esd ", "experiment=smoke ", "concept=church "])
def test_what_completion_offers_is_accepted(line):
    from unlearn.commands.completion import candidates

    words = line.split()
    config = composed(words)
    for group in ("method.", "eval.prompts.", "model.sampler.", "seeds.", "concept."):
        for offered in candidates(f"unlearn run {line}{group}"):
            key = offered.rstrip("=.")
            assert OmegaConf.select(config, key, default="nothing") != "nothing", offered
    parser = OverridesParser.create()
    for offered in candidates(f"unlearn run {line}"):
        if offered.endswith("="):
            parser.parse_override(f"{offered}x")


def test_mistakes_are_named_whatever_flags_stand_between_them():
    for words in (["method=esdd", "-m", "seed=0,1"], ["--cfg", "job", "method=esdd", "seed=0,1", "-m"]):
        assert "method: Unknown method 'esdd'" in diagnose(words)
    assert diagnose(["method=esdd", "--config-dir", "elsewhere"]) is None
    assert "seeds.erese: Unknown key 'erese'" in diagnose(["seeds.erese=2"])
    assert "device: Unknown key 'device.x'" not in diagnose(["device.x.y=2", "method=esdd"])
