"""How heavy tails are and where they sit: kurtosis, the largest value against the 99.9th percentile, and the channels.

Outliers of a few steady channels are what makes transformers hard to quantize (Dettmers et al. 2022, arXiv:2208.07339;
Bondarenko et al. 2021, arXiv:2109.12948).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LIMIT = 2**18  # values that decide percentiles; moments and maxima are of all
HIGH = 0.999  # the percentile that a maximum is compared with
REACH = 0.5  # of the largest value: a channel that comes so far shares in it


def kurtosis(values: Tensor) -> float:
    """Fourth central moment over the squared variance: 1.8 uniform, 3 normal, 6 Laplace; NaN where nothing varies.

    >>> kurtosis(torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    1.0
    """
    return float(_kurtosis(_powers(values.reshape(-1, 1)))[0])


def peak_ratio(values: Tensor) -> float:
    """Largest magnitude over the 99.9th percentile of magnitudes: (n,) or, a column each, (n, c) -> the whole's."""
    size = values.abs().flatten()
    high = float(quantile(size, HIGH))
    return float(size.amax()) / high if high > 0 else math.nan


def quantile(values: Tensor, share: float) -> Tensor:
    """The smallest value that at least this share of values (n, ...) reaches not beyond, along the first axis.

    >>> float(quantile(torch.tensor([1.0, 2.0, 3.0, 4.0]), 0.5))
    2.0
    """
    n = len(values)
    return values.float().kthvalue(min(n, max(1, math.ceil(n * share - 1e-9))), 0).values


def channels_last(values: Tensor) -> Tensor:
    """Activations (n, c, h, w), (n, tokens, c) or (n, c) as (n, positions, c)."""
    return values.flatten(2).transpose(1, 2) if values.dim() == 4 else values.reshape(len(values), -1, values.shape[-1])


def reaching(tops: Tensor) -> float:
    """Share of the channels whose largest magnitude, tops (c,), reaches half the largest of all.

    >>> reaching(torch.tensor([8.0, 5.0, 1.0, 1.0]))
    0.5
    """
    return float((tops >= REACH * tops.amax()).double().mean())


def holders(tops: Tensor) -> tuple[float, int, float]:
    """From the largest magnitudes tops (n, c) of every sample's channels: where does a sample's maximum lie?

    Share of the channels that hold it in any sample; the channel that holds it most often, and in what share of them.

    >>> holders(torch.tensor([[3.0, 1.0], [2.0, 1.0]]))
    (0.5, 0, 1.0)
    """
    counts = torch.bincount(tops.argmax(1), minlength=tops.shape[1])
    most = int(counts.argmax())
    return float((counts > 0).double().mean()), most, float(counts[most]) / len(tops)


def norm_gain(gamma: Tensor | None, variance: Tensor, eps: float) -> Tensor:
    """|gamma| / sigma (c,): what batch norm multiplies a channel by.

    >>> norm_gain(torch.tensor([-2.0]), torch.tensor([15.0]), 1.0)
    tensor([0.5000])
    """
    return (1.0 if gamma is None else gamma.abs()) / torch.sqrt(variance + eps)


class Tally:
    """Values that come in parts (n, positions, c), and what they say of tails.

    Moments, extremes and zeros are of all values; percentiles of at most LIMIT, whole positions drawn by `seed`, for
    `expected` samples in all.
    """

    def __init__(self, expected: int, seed: int = 0) -> None:
        self.expected, self.random = expected, torch.Generator().manual_seed(seed)
        self.tops: list[Tensor] = []  # (n, c) magnitudes
        self.rows: list[Tensor] = []  # (m, c)
        self.powers: Tensor | None = None  # (5, c): count and sums of the first four powers
        self.low, self.high, self.zeros = math.inf, -math.inf, 0

    def add(self, values: Tensor) -> None:
        values = values.detach().float().cpu()
        n, _, c = values.shape
        flat = values.reshape(-1, c)
        powers = _powers(flat)
        self.powers = powers if self.powers is None else self.powers + powers
        self.tops.append(values.abs().amax(1))
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self.zeros += int((flat == 0).sum())
        room = max(1, LIMIT // c * n // self.expected)
        if room < len(flat):
            flat = flat[torch.randint(len(flat), (room,), generator=self.random)]
        self.rows.append(flat)

    @property
    def count(self) -> int:
        return 0 if self.powers is None else int(self.powers[0].sum())

    def sample(self) -> Tensor:
        """(m, c)."""
        return torch.cat(self.rows)

    def kurtosis(self) -> float:
        assert self.powers is not None
        return float(_kurtosis(self.powers.sum(1, keepdim=True))[0])

    def channel_kurtosis(self) -> Tensor:
        """(c,)."""
        assert self.powers is not None
        return _kurtosis(self.powers)


def _powers(values: Tensor) -> Tensor:
    """Count and sums of the powers 1 to 4 of each column of values (n, c): (5, c)."""
    x = values.double()
    square = x * x
    return torch.stack(
        [torch.ones_like(x).sum(0), x.sum(0), square.sum(0), (square * x).sum(0), (square * square).sum(0)]
    )


def _kurtosis(powers: Tensor) -> Tensor:
    """From sums of powers (5, c): (c,); NaN where the variance is nought beside what it is computed from."""
    n = powers[0]
    m1, m2, m3, m4 = powers[1:] / n
    variance = m2 - m1**2
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    return torch.where(variance > 1e-12 * m2, fourth / variance**2, math.nan)
