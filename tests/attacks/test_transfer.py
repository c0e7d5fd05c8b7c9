"""What attacks that never look at the erased model find is found once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import torch

from unlearn.artifacts import Store
from unlearn.attacks.attack import AdversarialPrompts, Attack
from unlearn.concepts import Concept, ConceptSet, PromptSet
from unlearn.models.erasure import Erasure
from unlearn.models.sampling import Sampler
from unlearn.stages import Erased, attack

PLAIN = PromptSet("plain", ("a church",), (5,), ("",), ("church",))
SEEN: list[Erasure] = []


@dataclass(kw_only=True)
class Looking(Attack):
    paper, white_box = "", False

    def attack(self, target, prompts, generator):  # noqa: ARG002
        SEEN.append(target.erasure)
        return AdversarialPrompts(prompts, prompts.prompts, (1,), (0,), (False,))


@dataclass(kw_only=True)
class Blind(Looking):
    transfers = True


def test_a_transfer_attack_is_made_once_for_all_methods(tmp_path):
    SEEN.clear()
    church = Concept(
        kind="object", phrases=["church"], anchor="", retain=[], prompts=None, detector="x", labels=["x"]
    )

    def run(phrases, model, erasure):
        config = SimpleNamespace(
            concepts=ConceptSet(erase={"church": replace(church, phrases=phrases)}),
            eval=SimpleNamespace(
                detectors={"x": "judge"},
                attacks={"blind": Blind(prompts=1), "looking": Looking(prompts=1)},
            ),
            model=SimpleNamespace(
                sampler=Sampler(scheduler="ddim", steps=2, guidance=2.0, resolution=32, batch_size=4)
            ),
            seeds=SimpleNamespace(attack=0),
        )
        inputs = {"source": {"weights": model}, "method": list(erasure.weights)}
        done = Erased(erasure, tmp_path, inputs, {})
        return attack(config, Store(tmp_path), lambda: None, done, PLAIN).folders

    one, other = (Erasure(weights={name: torch.ones(1)}) for name in ("a", "b"))
    first, second = (run(["church"], "sd", erasure) for erasure in (one, other))
    assert first["blind"] == second["blind"]
    assert first["looking"] != second["looking"]
    assert [bool(erasure.weights) for erasure in SEEN] == [False, True, True]
    # Another original model or another concept is another attack.
    assert run(["church"], "other", one)["blind"] != first["blind"]
    assert run(["chapel"], "sd", one)["blind"] != first["blind"]
