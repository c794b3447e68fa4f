"""How alike two layers represent the same samples: centred kernel alignment (Kornblith et al. 2019, arXiv:1905.00414).

CKA(X, Y) = HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)) with linear kernels; no rotation and no common factor of the
features moves it. The plain estimate of few samples with many features is near 1 whatever they are; so everything
but `linear` uses the unbiased HSIC_1 of Song et al. 2012 (JMLR 13), averaged over minibatches before the ratio is
taken (Nguyen et al. 2021, arXiv:2010.15327).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 4  # samples that HSIC_1 needs


def linear(x: Tensor, y: Tensor) -> Tensor:
    """The plain estimate for features x (n, p) and y (n, q): a number between 0 and 1, biased upwards.

    >>> linear(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[3.0], [2.0], [1.0]]))
    tensor(1., dtype=torch.float64)
    """
    x, y = (v.double() - v.double().mean(0) for v in (x.flatten(1), y.flatten(1)))
    return (x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())


def grams(features: Sequence[Tensor]) -> Tensor:
    """Linear kernels of layers' features, each (n, ...), with an empty diagonal: (layers, n, n) float64."""
    flat = [f.flatten(1).double() for f in features]
    # what all samples share drops out of HSIC_1; taken out before, it costs no digits
    found = torch.stack([(f - f.mean(0)) @ (f - f.mean(0)).T for f in flat])
    found.diagonal(dim1=1, dim2=2).zero_()
    return found


class Hsics(NamedTuple):
    """HSIC_1 of one batch: every layer of one model with every layer of another, and of each layer with itself.

    between: (a, b), own: (a,) and other: (b,). The `without` ones have a last axis of n: all samples but that one.
    """

    between: Tensor
    own: Tensor
    other: Tensor
    between_without: Tensor
    own_without: Tensor
    other_without: Tensor

    @classmethod
    def of(cls, x: Sequence[Tensor], y: Sequence[Tensor]) -> Hsics:
        """Of the features of two models' layers, each (n, ...), for the same n samples. Errors: ValueError, n < 5."""
        k, l_ = grams(x), grams(y)
        between = _hsic(k[:, None], l_[None])
        own, other = _hsic(k, k), _hsic(l_, l_)
        return cls(between[0], own[0], other[0], between[1], own[1], other[1])


def _hsic(k: Tensor, l_: Tensor) -> tuple[Tensor, Tensor]:
    """HSIC_1 of kernels (..., n, n) with an empty diagonal: (...), and without each sample in turn (..., n)."""
    n = k.shape[-1]
    if n < LEAST:
        raise ValueError(f"HSIC_1 needs {LEAST} samples, not {n}")
    ks, ls = k.sum(-1), l_.sum(-1)  # (..., n)
    both = torch.einsum("...ij,...ij->...i", k, l_)
    across = (k @ ls[..., None]).squeeze(-1) + (l_ @ ks[..., None]).squeeze(-1)
    trace, sums, chain = both.sum(-1), (ks.sum(-1), ls.sum(-1)), (ks * ls).sum(-1)
    whole = _song(trace, *sums, chain, n)
    if n == LEAST:
        return whole, torch.full_like(both, math.nan)
    left = _song(
        trace[..., None] - 2 * both, sums[0][..., None] - 2 * ks, sums[1][..., None] - 2 * ls,
        chain[..., None] - ks * ls - across + both, n - 1,
    )  # fmt: skip
    return whole, left


def _song(trace: Tensor, ks: Tensor, ls: Tensor, chain: Tensor, n: int) -> Tensor:
    """Equation 5 of Song et al. from tr(KL), 1'K1, 1'L1 and 1'KL1 of kernels with an empty diagonal."""
    return (trace + ks * ls / ((n - 1) * (n - 2)) - 2 * chain / (n - 2)) / (n * (n - 3))


def matrix(*batches: Hsics) -> Tensor:
    """CKA of every layer with every layer over all batches: (a, b); NaN where a layer tells no samples apart."""
    between, own, other = (torch.stack([b[i] for b in batches]).mean(0) for i in range(3))
    return _ratio(between, own, other)


def left_out(*batches: Hsics) -> Tensor:
    """The same without each sample in turn: (a, b, samples). What a jackknife needs (Arvesen 1969)."""
    found = []
    for k, batch in enumerate(batches):
        rest = [b for j, b in enumerate(batches) if j != k]
        between, own, other = (
            torch.stack([batch[3 + i], *(b[i][..., None].expand_as(batch[3 + i]) for b in rest)]).mean(0)
            for i in range(3)
        )
        found.append(_ratio(between, own, other))
    return torch.cat(found, -1)


def _ratio(between: Tensor, own: Tensor, other: Tensor) -> Tensor:
    own, other = (torch.where(v > 0, v, math.nan) for v in (own, other))
    return between / (own[:, None] * other[None]).sqrt()


def jackknife(whole: Tensor, without: Tensor) -> tuple[Tensor, Tensor]:
    """95 % interval of estimates (...) from those without each of n samples (..., n): low and high (...)."""
    from scipy.special import stdtrit

    n = without.shape[-1]
    error = ((n - 1) / n * (without - without.mean(-1, keepdim=True)).square().sum(-1)).sqrt()
    half = float(stdtrit(n - 1, 0.975)) * error
    return whole - half, whole + half
