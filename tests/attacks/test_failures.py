"""A detector that fails while an attack looks at images: counted, bounded, and never taken for resistance."""

from __future__ import annotations

import pytest
import torch
from attack_cases import PLAIN, SAMPLER, cce, concept, random_tokens
from attack_cases import unlearndiffatk as gradients

from unlearn.attacks.attack import AdversarialPrompts, Target
from unlearn.attacks.guesses import Guess, GuessingAttack
from unlearn.concepts.concept import ConceptSet
from unlearn.detectors.detector import Detector
from unlearn.errors import UnlearnError
from unlearn.models.erasure import Erasure
from unlearn.pipeline.attacking import Attacked, search, tried
from unlearn.pipeline.outcome import _attack
from unlearn.seeding import generator
from unlearn.store.artifacts import Store

#: A random model's images show nothing.
pytestmark = pytest.mark.filterwarnings("ignore:attack. the original model's images show")


class Flaky(Detector):
    """Sees red nowhere, or everywhere, and fails on some of its images, counted from 0."""

    labels = ("red",)
    threshold = 0.5

    def __init__(self, fails, raises, sees=0.0):
        self.fails, self.raises, self.sees, self.asked = fails, raises, sees, {}

    def scores(self, images):
        rows = []
        for image in images:
            number = self.asked.setdefault(image.sum().item(), len(self.asked))
            if self.fails(number) and self.raises:
                raise RuntimeError("out of order")
            rows.append(torch.nan if self.fails(number) else self.sees)
        return torch.tensor(rows)[:, None]


class Given(GuessingAttack):
    def guess(self, target, prompts, generator):  # noqa: ARG002
        return [Guess((f"{text} x", f"{text} y"), (0.1, 0.2), 0.3, 5) for text in prompts.prompts]


ATTACKS = {
    "control": lambda: random_tokens(candidates=2),
    "gradients": lambda: gradients(batch_size=1),
    "guesses": lambda: Given(prompts=3, looks=2, batch_size=2),
    "cce": lambda: cce(images=2, steps=1),
}
#: Images of which the first prompt's are, of those that an attack looks at.
FIRST = {"control": range(2), "gradients": range(3), "guesses": range(2), "cce": range(2, 3)}


def target_of(model, detector, failures):
    concepts = ConceptSet(erase={"red": concept(detector="judge")})
    return Target(model, Erasure(), concepts, {"red": detector}, SAMPLER, failures=failures)


@pytest.fixture(params=[True, False], ids=["raises", "nan"])
def raises(request):
    return request.param


@pytest.mark.parametrize("name", ATTACKS)
def test_a_prompt_on_whose_images_it_failed_is_not_resisted(name, raises, tiny, tmp_path):
    flaky = Flaky(lambda number: number in FIRST[name], raises)
    found = ATTACKS[name]().attack(target_of(tiny, flaky, 1), PLAIN, generator(0))
    assert found.found == (None, False, False)
    assert found.unjudged == [0]
    folder = Store(tmp_path).once("attack", {}, found.save)
    kept = AdversarialPrompts.load(folder)
    assert kept.found == found.found
    assert _attack("x", Attacked(ATTACKS[name](), kept, folder))["failed"] == 1


@pytest.mark.parametrize("name", ATTACKS)
def test_without_allowed_failures_it_ends_the_attack_in_a_line(name, raises, tiny):
    target = target_of(tiny, Flaky(lambda number: number == FIRST[name][0], raises), 0)
    with pytest.raises(UnlearnError, match=r"^eval\.detectors\.judge: failed on 1 of .* allows 0\.$"):
        ATTACKS[name]().attack(target, PLAIN, generator(0))


@pytest.mark.parametrize("name", ATTACKS)
def test_one_that_does_nothing_else_ends_the_attack_in_a_line(name, raises, tiny):
    said = r"^attack: the detector failed on (images of 3 of 3 prompts .*failures allows 2|all \d+ images)"
    with pytest.raises(UnlearnError, match=said):
        ATTACKS[name]().attack(target_of(tiny, Flaky(lambda _: True, raises), 2), PLAIN, generator(0))


@pytest.mark.parametrize("name", ["control", "guesses"])
def test_failures_for_more_prompts_than_may_end_the_attack(name, raises, tiny):
    flaky = Flaky(lambda number: number not in FIRST[name], raises)
    said = r"^attack: the detector failed on images of 2 of 3 prompts \(.*\); eval\.failures allows 1\.$"
    with pytest.raises(UnlearnError, match=said):
        ATTACKS[name]().attack(target_of(tiny, flaky, 1), PLAIN, generator(0))


def test_a_success_among_failures_is_a_success(raises, tiny):
    flaky = Flaky(lambda number: number == 0, raises, sees=0.9)
    found = ATTACKS["control"]().attack(target_of(tiny, flaky, 1), PLAIN, generator(0))
    assert found.found == (True, True, True)


def test_the_image_to_aim_at_is_one_that_was_judged(raises, tiny):
    flaky = Flaky(lambda number: number == 0, raises, sees=0.9)
    target = target_of(tiny, flaky, 1)
    case = gradients().cases(PLAIN, generator(0))[0]
    objective = gradients().objective
    clean, failed = objective._clean(target, [case])
    flaky.fails, flaky.asked = (lambda number: number == 1), {}
    other, _ = objective._clean(target, [case])
    assert failed == [True]
    assert not torch.equal(clean, other)


def test_what_failed_before_is_bounded_when_it_is_found_again(tiny, tmp_path):
    flaky = Flaky(lambda number: number < 2, raises=True)
    store, trial = Store(tmp_path), tried("x", ATTACKS["control"](), PLAIN, 0)
    found, _ = search(trial, lambda: target_of(tiny, flaky, 0), {}, store, failures=1)
    assert found.found == (None, False, False)
    with pytest.raises(UnlearnError, match=r"failed on images of 1 of 3 prompts; eval\.failures allows 0\.$"):
        search(trial, lambda: target_of(tiny, flaky, 0), {}, store)
