"""What models answer, beside the original: distances of their shares, whether the shares hold, how soft they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lessen.analyze.statistics import wilson
from lessen.ops import bootstrap, confidence, losses, similarity
from lessen.ops.bootstrap import Estimate
from lessen.ops.confidence import Bin

TEMPERATURES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Answers:
    """Of one model. mistakes: images that the original gets wrong; repeated: of them, those with the same wrong answer.

    ece: calibration error in ten bins of equal count, its interval, and what a calibrated model shows by chance: mean
    and 95th percentile. sure: mean confidence less the share of right answers. entropies: at TEMPERATURES, nats.
    """

    right: Estimate
    agreement: Estimate
    mistakes: int
    repeated: int
    kl: Estimate
    js: Estimate
    ece: Estimate
    chance: tuple[float, float]
    sure: float
    brier: Estimate
    nll: Estimate
    entropies: tuple[Estimate, ...]
    bins: tuple[Bin, ...]


def answers(logits: Sequence[Tensor], y: Tensor) -> tuple[Answers, ...]:
    """Of all models, the original first; logits (n, classes) each, y (n,)."""
    return tuple(_answers(logits[0], own, y) for own in logits)


def _answers(original: Tensor, own: Tensor, y: Tensor) -> Answers:
    said, taught = own.argmax(1), original.argmax(1)
    right, wrong, sure = said == y, taught != y, confidence.top(own)
    bins = confidence.bins(sure, right)
    chance = confidence.expected(sure)
    low, high = confidence.resampled(sure, right)
    return Answers(
        right=_share(right), agreement=_share(said == taught), mistakes=int(wrong.sum()),
        repeated=int((wrong & (said == taught)).sum()), kl=bootstrap.mean(similarity.kl(original, own)),
        js=bootstrap.mean(similarity.js(original, own)), ece=Estimate(confidence.error(bins), low, high, len(y)),
        chance=(float(chance.mean()), float(chance.quantile(0.95))),
        sure=float(sure.mean() - right.double().mean()),
        brier=bootstrap.mean(confidence.brier(own, y)), nll=bootstrap.mean(confidence.nll(own, y)),
        entropies=tuple(bootstrap.mean(losses.softened_entropy(own, t)) for t in TEMPERATURES), bins=tuple(bins),
    )  # fmt: skip


def _share(yes: Tensor) -> Estimate:
    k, n = int(yes.sum()), len(yes)
    return Estimate(k / n, *wilson(k, n), n)
