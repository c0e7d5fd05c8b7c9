"""What sampling-time methods look out for, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from unlearn.concepts.concept import PROMPT_TEMPLATES, ConceptSet
from unlearn.concepts.sentences import fill
from unlearn.errors import ConfigError
from unlearn.methods.method import Method, of_other_kinds
from unlearn.models.model import DiffusionModel
from unlearn.settings import Settings, setting


@dataclass(kw_only=True)
class Wording(Settings):
    """How a concept is said to a guard.

    Attributes:
        phrases: Phrases that stand in for the concept's own, by kind of concept.
        template: What each phrase is put into: ``{}`` stands for it, ``{a}`` for it with its article.
    """

    phrases: dict[str, list[str]] = setting(
        keys=PROMPT_TEMPLATES, kind="kind of concept", shape="some", filled=True
    )
    template: str = setting(contains=("{}", "{a}"))

    def of(self, concepts: ConceptSet) -> list[str]:
        """Every phrase to look out for, each once."""
        phrases = (
            phrase
            for concept in concepts.erase.values()
            for phrase in self.phrases.get(concept.kind, concept.phrases)
        )
        return list(dict.fromkeys(fill(self.template, phrase) for phrase in phrases))

    def prompt(self, model: DiffusionModel, concepts: ConceptSet) -> str:
        """All of them in one prompt, joined by commas.

        Raises:
            ConfigError: If they are too many for the text encoder.
        """
        text = ", ".join(self.of(concepts))
        try:
            model.tokenize([text])
        except ConfigError as error:
            raise ConfigError(f"method.wording: all phrases together make one prompt. {error}") from None
        return text


@dataclass(kw_only=True)
class WordedMethod(Method):
    """A method that acts while sampling, on what it is told in words.

    Attributes:
        wording: How the concept is said.
    """

    continues: ClassVar[bool] = False
    random: ClassVar[bool] = False

    wording: Wording

    @property
    def reads(self) -> frozenset[str]:
        """The kind, which the wording may depend on."""
        return frozenset({"kind"})

    def idle(self, concepts: ConceptSet) -> dict[str, str]:
        """Words for other kinds."""
        return of_other_kinds("wording.phrases", self.wording.phrases, concepts)
