"""Attacks, by their name in ``conf/attack``."""

from unlearn.attacks.attack import Attack
from unlearn.attacks.concept_inversion import ConceptInversion
from unlearn.attacks.gradient_attack import P4D, UnlearnDiffAtk
from unlearn.attacks.random_tokens import RandomTokens
from unlearn.attacks.replay import Replay
from unlearn.attacks.sneaky_prompt import SneakyPrompt
from unlearn.attacks.text_attack import MMADiffusion, RingABell

ATTACKS: dict[str, type[Attack]] = {
    "random_tokens": RandomTokens,
    "unlearndiffatk": UnlearnDiffAtk,
    "p4d": P4D,
    "ringabell": RingABell,
    "mma": MMADiffusion,
    "sneaky": SneakyPrompt,
    "cce": ConceptInversion,
    "replay": Replay,
}
