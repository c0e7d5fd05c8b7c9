"""What becomes of things the nearer they are to the concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from unlearn.concepts.concept import ROLES, ConceptSet
from unlearn.concepts.images import ImageRequest
from unlearn.detectors.detector import ImageText, Network
from unlearn.errors import ConfigError
from unlearn.metrics.classification import ConceptAccuracy
from unlearn.metrics.details import Table, detailed
from unlearn.metrics.evidence import Evidence, told
from unlearn.metrics.metric import Metric, check_network, pair, prompts_of
from unlearn.metrics.score import Score
from unlearn.settings import setting
from unlearn.statistics.similarity import clip_similarity

UNIT = "% retained"


@dataclass(kw_only=True)
class ErosionCurve(Metric):
    r"""Retention of each thing that should stay, :math:`\mathrm{Acc} / \mathrm{Acc}_0`, by its similarity to
    the concept, and the area under that curve.

    A thing's similarity is the cosine of the CLIP's embeddings of its label and of the concept's first
    phrase; of several concepts, the highest. The area is over the range of similarities, so that it is the
    mean retention along it: 100 if every thing is drawn as often as before. Things that the original model
    hardly draws are left out, since a ratio to little says nothing.

    References:
        | Holistic Unlearning Benchmark (Moon et al., 2024), whose pinpointness is this without the original
        | https://arxiv.org/abs/2410.05664

    Attributes:
        roles: Which prompts the images are drawn from: those that ask for things that should stay.
        clip: Key in ``eval.detectors`` of the CLIP.
        known_from: The original model must draw a thing in at least this share of its images, in percent.
    """

    better = "higher"

    roles: list[str] = setting(choices=ROLES[3:], kind="role", shape="once")
    clip: str
    known_from: float = setting(above=0, most=100, unit="percent")

    def needs(self, concepts: ConceptSet, attacks: Sequence[str]) -> list[ImageRequest]:  # noqa: ARG002
        """The images of the roles, of both models."""
        return [request for role in self.roles for request in pair(role)]

    def check(self, detectors: Mapping[str, Network]) -> list[str]:
        """Whether ``clip`` is a CLIP."""
        return check_network("clip", self.clip, detectors, ImageText)

    def score(self, evidence: Evidence) -> Score:
        """The area, in percent of the original's."""
        correct = self._correct(evidence)
        near = self._similar(evidence, list(correct))
        n, expected = 0, sum(len(pairs) for pairs in correct.values())
        rows = []
        for label, pairs in correct.items():
            whole = pairs[pairs.isfinite().all(dim=1)]
            after, before = whole.mean(dim=0).tolist() if len(whole) else (0.0, 0.0)
            if 100 * before >= self.known_from:
                n += len(whole)
                shares = 100 * after, 100 * before, 100 * after / before
                rows.append((label, (near[label], *shares, float(len(whole)))))
        rows.sort(key=lambda row: (row[1][0], row[0]))
        similar, retained = [row[1][0] for row in rows], [row[1][3] for row in rows]
        if len(set(similar)) < 2:
            reason = f"the original model draws {len(rows)} things that should stay, and a curve needs two."
            return self.undefined(UNIT, reason, expected)
        places = torch.tensor(similar, dtype=torch.double)
        heights = torch.tensor(retained, dtype=torch.double)
        area = torch.trapezoid(heights, places) / (places[-1] - places[0])
        score = Score(
            value=area.item(),
            unit=UNIT,
            n=n,
            prompts=min(n, len(set(self._texts(evidence)))),
            expected=expected,
            failed=sum(int((~pairs.isfinite().all(dim=1)).sum()) for pairs in correct.values()),
            interval=None,
            better=self.better,
            version=self.version,
        )
        columns = ("similarity", "erased", "original", "retained", "images")
        return detailed(score, curve=Table.of(columns, rows))

    def _correct(self, evidence: Evidence) -> dict[str, torch.Tensor]:
        """By label, whether each image of the erased and of the original model shows it, as
        :math:`(N, 2)`."""
        found: dict[str, list[tuple[float, float]]] = {}
        for role in self.roles:
            prompts = prompts_of(evidence, role)
            said = ConceptAccuracy(role=role, clip=self.clip).score(evidence).per_image
            if said:
                erased, original = (said[request] for request in pair(role))
                for label, after, before in zip(prompts.shows, erased, original, strict=True):
                    if label:
                        found.setdefault(label, []).append((after, before))
        return {label: told(torch.tensor(pairs, dtype=torch.double)) for label, pairs in found.items()}

    def _texts(self, evidence: Evidence) -> list[str]:
        return [text for role in self.roles for text in prompts_of(evidence, role).prompts]

    def _similar(self, evidence: Evidence, labels: Sequence[str]) -> dict[str, float]:
        """The similarity of each label to the nearest concept."""
        clip = evidence.network(self.clip)
        if not isinstance(clip, ImageText):
            raise ConfigError(f"eval.detectors.{self.clip}: is no CLIP, and a metric asks for one.")
        phrases = [concept.phrases[0] for concept in evidence.concepts.erase.values()]
        if not labels:
            return {}
        with torch.no_grad():
            things, concepts = (
                clip.text_features([clip.template.format(text) for text in texts]).double().cpu()
                for texts in (labels, phrases)
            )
        near = [
            max(clip_similarity(thing[None], concept[None]).item() for concept in concepts)
            for thing in things
        ]
        return dict(zip(labels, near, strict=True))
