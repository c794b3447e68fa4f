"""How far a quantized array is from the original: for tensors and NumPy's."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Distortion(NamedTuple):
    """mse and mae in the array's unit; relative: Frobenius norm of the difference over the original's."""

    mse: float
    mae: float
    relative: float
    sqnr_db: float  # 10 log10 of signal power over difference power; infinite where both are equal

    @classmethod
    def of(cls, original: Any, found: Any) -> Distortion:
        """Compare two arrays of one shape, in float64.

        >>> Distortion.of([3.0, 4.0], [3.0, 3.5])
        Distortion(mse=0.125, mae=0.25, relative=0.1, sqnr_db=20.0)
        """
        return Sums.of(original, found).distortion()


class Sums(NamedTuple):
    """What a distortion is made of, so that arrays can come in parts: sums of squares, and of the difference's size."""

    signal: float = 0.0
    noise: float = 0.0
    absolute: float = 0.0
    count: int = 0

    @classmethod
    def of(cls, original: Any, found: Any) -> Sums:
        """Of two arrays of one shape, in float64."""
        x, y = _double(original), _double(found)
        if x.shape != y.shape:
            raise ValueError(f"shapes differ: {tuple(x.shape)} and {tuple(y.shape)}")
        return cls(float(x.square().sum()), float((x - y).square().sum()), float((x - y).abs().sum()), x.numel())

    def plus(self, other: Sums) -> Sums:
        """Of both parts together.

        >>> Sums.of([3.0], [3.0]).plus(Sums.of([4.0], [3.5])).distortion() == Distortion.of([3.0, 4.0], [3.0, 3.5])
        True
        """
        return Sums(
            self.signal + other.signal, self.noise + other.noise,
            self.absolute + other.absolute, self.count + other.count,
        )  # fmt: skip

    def distortion(self) -> Distortion:
        if self.noise == 0:
            return Distortion(0.0, 0.0, 0.0, math.inf)
        ratio = math.sqrt(self.noise / self.signal) if self.signal else math.inf
        decibel = 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf
        return Distortion(self.noise / self.count, self.absolute / self.count, ratio, decibel)


def _double(values: Any) -> Tensor:
    return torch.as_tensor(values).detach().double()
