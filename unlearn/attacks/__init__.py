"""Attacks, by their name in ``conf/attack``."""

from unlearn.attacks.attack import Attack

ATTACKS: dict[str, type[Attack]] = {}
