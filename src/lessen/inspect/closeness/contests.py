"""Which of two models is nearer to the original, image by image: a sign test for each measure, corrected together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lessen.analyze.statistics import holm
from lessen.ops import bootstrap, similarity
from lessen.ops.bootstrap import Estimate

if TYPE_CHECKING:
    from lessen.inspect.attention import Views
    from lessen.inspect.closeness.features import Attention

LEVEL = 0.05


@dataclass(frozen=True)
class Contest:
    """The first model beside the original against model `rival`. ahead, behind, level: images by who is nearer.

    share: of images on which the first is nearer, those on which both are as near counted half. gain: mean lead of the
    first in the measure's own unit. p: of the sign test, p_holm: corrected over all contests.
    """

    rival: int
    measure: str
    ahead: int
    behind: int
    level: int
    share: Estimate
    gain: Estimate
    p: float
    p_holm: float

    @property
    def clear(self) -> bool:
        return self.p_holm <= LEVEL


def contests(logits: Sequence[Tensor], views: Views | None, attention: Sequence[Attention]) -> tuple[Contest, ...]:
    """All measures, for every rival; logits (n, classes), the original's first."""
    found = [
        (rival, measure, gain)
        for rival in range(2, len(logits))
        for measure, gain in _gains(rival, logits, views, attention)
    ]
    tallies = [_tally(gain) for *_, gain in found]
    ps = [sign_test(ahead, behind) for ahead, behind, _ in tallies]
    return tuple(
        Contest(rival, measure, *tally, bootstrap.mean(_shares(gain)), bootstrap.mean(gain), p, corrected)
        for (rival, measure, gain), tally, p, corrected in zip(found, tallies, ps, holm(ps), strict=True)
    )


def _gains(
    rival: int, logits: Sequence[Tensor], views: Views | None, attention: Sequence[Attention]
) -> Iterator[tuple[str, Tensor]]:
    """By measure: how much nearer the first is on each image (n,), NaN where that is not defined."""
    kl, other = (similarity.kl(logits[0], logits[i]).double() for i in (1, rival))
    yield "KL of the answers", other - kl
    if views is not None:
        for name, title in (("cosine", "Grad-CAM, cosine"), ("ssim", "Grad-CAM, SSIM")):
            ours, theirs = (torch.tensor(views.values[name][i], dtype=torch.float64) for i in (1, rival))
            yield title, ours - theirs
    for one in attention:
        mine, its = one.values[1], one.values[rival]
        if mine is not None and its is not None:
            gain = torch.tensor(mine, dtype=torch.float64) - torch.tensor(its, dtype=torch.float64)
            yield f"attention {one.size[0]}x{one.size[1]}, mean left out", gain


def shares(
    rival: int, logits: Sequence[Tensor], views: Views | None, attention: Sequence[Attention]
) -> dict[str, float]:
    """By measure: on which share of images the first is nearer than `rival`, without interval or test."""
    return {measure: float(_shares(gain).nanmean()) for measure, gain in _gains(rival, logits, views, attention)}


def _tally(gain: Tensor) -> tuple[int, int, int]:
    return int((gain > 0).sum()), int((gain < 0).sum()), int((gain == 0).sum())


def _shares(gain: Tensor) -> Tensor:
    """1 ahead, 0 behind, a half level; NaN stays."""
    return torch.where(gain.isnan(), math.nan, (gain.sign() + 1) / 2)


def sign_test(ahead: int, behind: int) -> float:
    """Two-sided p of so many of ahead + behind at even odds (Dixon & Mood 1946, doi:10.1080/01621459.1946.10501898).

    >>> sign_test(5, 0)
    0.0625
    """
    from scipy.stats import binomtest

    return float(binomtest(ahead, ahead + behind).pvalue) if ahead + behind else 1.0
