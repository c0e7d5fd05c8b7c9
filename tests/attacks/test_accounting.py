"""What attacks count: images that show the concept, images that nobody knows of, prompts, budgets."""

import json
import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from attack_cases import SAMPLER, concept

from unlearn.attacks.attack import AdversarialPrompts, Attack, Tally, Target, aimed, bounded, too_small
from unlearn.concepts.concept import ConceptSet, PromptSet
from unlearn.detectors.detector import Detector
from unlearn.errors import ArtifactError, ConfigError, IncompatibleError, UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.models.guards import Guard

PLAIN = PromptSet("attack:x", ("a", "b", "c"), (5, 6, 7), ("", "red", ""), ("red", "red", "blue"))
FOUND = AdversarialPrompts(
    PLAIN, ("d", "e", "f"), (1, 2, 3), (4, 5, 6), (True, None, False), ((1.0, 0.5), None, (2.0, 3.0))
)


@dataclass
class Two(Detector):
    """Sees each label by the mean of its channel, and breaks where the third channel is bright."""

    threshold: float = 0.5
    labels: tuple[str, ...] = ("red", "green")
    raises: bool = False

    def scores(self, images):
        broken = images[:, 2].mean(dim=(1, 2)) > 0.5
        if self.raises and bool(broken.any()):
            raise RuntimeError("out of order")
        return images[:, :2].mean(dim=(2, 3)).masked_fill(broken[:, None], math.nan)


@dataclass(kw_only=True)
class Nothing(Attack):
    """Gives the prompts as they are."""

    paper, white_box = "", True

    def attack(self, target, prompts, generator):  # noqa: ARG002
        return FOUND


def image(red=0.0, green=0.0, blue=0.0):
    return torch.tensor([red, green, blue])[:, None, None].expand(3, 4, 4)


def target(failures=0, labels=("red", "green"), raises=False, guard=None):
    concepts = ConceptSet(erase={"red": concept(labels=list(labels)), "blue": concept("green")})
    judges = {"red": Two(raises=raises), "blue": Two(raises=raises)}
    return Target(None, Erasure(guard=guard), concepts, judges, SAMPLER, failures=failures)


IMAGES = torch.stack([image(0.9, 0.2), image(0.1, 0.7), image(0.3, 0.4), image(0.9, 0.9, 0.9)])


@pytest.mark.parametrize("raises", [True, False])
def test_an_image_shows_a_concept_by_any_of_its_labels_and_is_unknown_where_its_judge_fails(raises):
    looked = target(failures=1, raises=raises)
    shown, probability = looked.judge(IMAGES, "red")
    assert shown.tolist() == [True, True, False, False]
    assert shown.dtype == torch.bool
    assert probability.tolist() == pytest.approx([0.9, 0.7, 0.4, math.nan], nan_ok=True)
    assert (looked.tally.judged, looked.tally.failed) == (3, 1)
    assert looked.tally.first == ("out of order" if raises else "not a finite number")
    assert [looked.sees(one, "red") for one in IMAGES] == [True, True, False, None]
    assert (looked.tally.judged, looked.tally.failed) == (6, 2)
    # The other concept has a label of its own.
    assert looked.judge(IMAGES, "blue")[0].tolist() == [False, True, False, False]


def test_a_failure_that_is_not_allowed_says_how_many_there_were():
    looked = target()
    assert looked.judge(IMAGES[:3], "red")[0].tolist() == [True, True, False]
    said = (
        r"eval.detectors.red: failed on 1 of the 7 images .*\(not a finite number\); eval.failures allows 0"
    )
    with pytest.raises(UnlearnError, match=said):
        looked.judge(IMAGES, "red")


def test_the_attacked_model_draws_as_it_is_erased_and_guarded(monkeypatch):
    """Each prompt with its seed, in batches; brightness tells the erasure and the guard."""

    class Half(Guard):
        pass

    class Model:
        light = 1.0

        @contextmanager
        def erased(self, erasure):
            self.light = 0.5 if erasure.weights else 1.0
            yield self
            self.light = 1.0

    def drawn(model, prompts, seeds, sampler, guard=None):
        assert sampler == SAMPLER
        for text, seed in zip(prompts, seeds, strict=True):
            yield torch.full((1, 3, 2, 2), model.light * seed * len(text) * (1.0 if guard is None else 0.1))

    monkeypatch.setattr("unlearn.attacks.attack.draw", drawn)
    weights = {"unet.x": torch.zeros(1)}
    for erasure, light in (
        (Erasure(), 1.0),
        (Erasure(weights), 0.5),
        (Erasure(guard=Half()), 0.1),
        (Erasure(weights, guard=Half()), 0.05),
    ):
        images = replace(target(), model=Model(), erasure=erasure).draw(["a", "bb"], [3, 4])
        assert images.shape == (2, 3, 2, 2)
        assert images[:, 0, 0, 0].tolist() == pytest.approx([3 * light, 8 * light])


def test_a_tally_keeps_the_first_reason():
    tally = Tally()
    tally.add(3, [])
    assert tally == Tally(3, 0, "")
    tally.add(2, ["dark", "bright"])
    tally.add(0, ["late"])
    assert tally == Tally(5, 3, "dark")


def test_an_attack_goes_on_until_more_prompts_fail_than_may():
    bounded([None, True, False, None], 2)
    with pytest.raises(UnlearnError, match=r"images of 2 of 4 prompts \(why\); eval.failures allows 1\."):
        bounded([None, True, False, None], 1, " (why)")
    looked = target(failures=1)
    looked.heed([None, True])
    with pytest.raises(UnlearnError, match=r"images of 2 of 2 prompts; eval.failures allows 1\."):
        looked.heed([None, None])
    looked.tally.add(0, ["dark"])
    with pytest.raises(UnlearnError, match=r"2 of 2 prompts \(dark\); eval"):
        looked.heed([None, None])


def test_there_is_something_to_aim_at_where_an_image_shows_it_or_few_were_drawn():
    aimed("church", [False] * 7 + [True], "images")
    aimed("church", [False] * 7, "images")
    aimed("church", [None] * 7, "images")
    aimed("church", [False] * 7 + [None] * 9, "images")
    with pytest.raises(
        IncompatibleError, match=r"none of 8 images .* shows church.*raise the attack's images"
    ):
        aimed("church", [None] + [False] * 8, "images")
    with pytest.raises(UnlearnError, match=r"failed on all 8 images that the original model drew of church"):
        aimed("church", [None] * 8, "images")


def test_what_is_found_is_read_as_it_was_written(tmp_path):
    FOUND.save(tmp_path)
    assert AdversarialPrompts.load(tmp_path) == FOUND
    assert FOUND.unjudged == [1]
    bare = replace(FOUND, objective=())
    bare.save(tmp_path)
    assert AdversarialPrompts.load(tmp_path) == bare
    path = tmp_path / "attack.json"
    old = json.loads(path.read_text())
    del old["objective"]
    path.write_text(json.dumps(old))
    assert AdversarialPrompts.load(tmp_path) == bare
    for broken in ({**old, "prompts": {}}, {key: old[key] for key in old if key != "found"}, [1]):
        path.write_text(json.dumps(broken))
        with pytest.raises(ArtifactError, match=r"attack.json: cannot be read"):
            AdversarialPrompts.load(tmp_path)


def test_an_attack_is_tried_on_the_first_prompts_within_its_budget():
    attack = Nothing(prompts=2)
    assert attack.chosen(PLAIN) == PLAIN.limited(2)
    assert attack.bounded(SAMPLER, PLAIN) is attack
    # One that asks no denoiser has nothing to cut.
    assert Nothing(prompts=2, budget=3).bounded(SAMPLER, PLAIN) == attack
    assert (attack.reads, attack.idle(), attack.files, attack.check(None)) == (frozenset(), {}, [], [])
    assert (attack.control, attack.through_guards, attack.own_seeds, attack.random) == (
        False,
        False,
        False,
        True,
    )
    error = too_small(3, 8, "one look")
    assert isinstance(error, ConfigError)
    assert str(error) == "budget: one look takes 8 denoiser forwards, got 3."


def test_gradients_go_through_a_guard_only_where_both_let_them():
    class Soft(Guard):
        differentiable = True

    class Hard(Guard):
        differentiable = False

    through = SimpleNamespace(through_guards=True)
    plain = SimpleNamespace(through_guards=False)
    for attack in (through, plain):
        target().open_to(attack)
    target(guard=Soft()).open_to(through)
    for guard, attack in ((Soft(), plain), (Hard(), through), (Hard(), plain)):
        with pytest.raises(IncompatibleError, match=r"SimpleNamespace needs gradients"):
            target(guard=guard).open_to(attack)
