"""Erasure methods, by their name in ``conf/method``."""

from unlearn.methods.esd import ESD
from unlearn.methods.method import Method
from unlearn.methods.none import Nothing
from unlearn.methods.rece import RECE
from unlearn.methods.trce import TRCE
from unlearn.methods.uce import UCE

METHODS: dict[str, type[Method]] = {"none": Nothing, "uce": UCE, "rece": RECE, "esd": ESD, "trce": TRCE}
