"""No erasure: the baseline that every method is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.concepts.concept import ConceptSet
from unlearn.methods.method import Context, Method
from unlearn.models.erasure import Erasure
from unlearn.models.model import DiffusionModel


@dataclass(kw_only=True)
class Nothing(Method):
    """Leaves the model as it is: the row that every other method is compared with."""

    paper: ClassVar[str] = ""
    random: ClassVar[bool] = False

    @property
    def reads(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def erase(self, model: DiffusionModel, concepts: ConceptSet, context: Context) -> Erasure:
        """An empty erasure."""
        del model, concepts, context
        return Erasure()
