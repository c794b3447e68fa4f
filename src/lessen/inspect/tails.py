"""Outliers in words: where the heavy tails are, which channels hold them, and their ties to batch norm and ReLU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING

from lessen.inspect.causes import decibel
from lessen.inspect.findings import CLEAR, percent
from lessen.ops.bootstrap import Estimate

if TYPE_CHECKING:
    from lessen.inspect.tensors import Curve, Distributions, Norm, Seen

HEAVY = 6.0  # kurtosis of a Laplace distribution
FAR = 2.0  # the maximum over the 99.9th percentile
FEW = 0.1  # of the channels reach half the maximum, or fewer: the outliers are those channels'
STEADY = 0.5  # of the samples have their maximum in the same channel
PAYS = 0.5  # dB that clipping or logarithms must win
FACTOR = 1.25  # kurtosis beyond this factor has changed
TAMED = 4  # bits at which that is judged


def sentences(found: Distributions) -> Iterator[str]:
    """All findings."""
    for name in ("weights", "activations", "ties"):
        yield from about(found, name)


def about(found: Distributions, name: str) -> Iterator[str]:
    """Of weights, of activations, or their ties with batch norm and activation functions."""
    if name != "ties":
        seen = getattr(found, name)
        if seen:
            yield _tails(name, seen)
            yield _channels(name, seen)
            yield _tamed(name, seen)
        return
    if found.norms:
        yield _norms(found)
    for kind in dict.fromkeys(curve.kind for curve in found.curves):
        yield _curve(kind, [curve for curve in found.curves if curve.kind == kind])


def outlying(one: Seen) -> bool:
    """Heavy tails and a maximum far out."""
    return one.kurtosis > HEAVY and one.ratio > FAR


def _tails(name: str, seen: Sequence[Seen]) -> str:
    known = [s for s in seen if not math.isnan(s.kurtosis)]
    if not known:
        return f"{name.capitalize()} do not vary."
    worst, far = max(known, key=lambda s: s.kurtosis), max(known, key=lambda s: s.ratio if s.ratio == s.ratio else 0)
    count = sum(map(outlying, known))
    head = (
        f"{count} of {len(known)} tensors of {name} have outliers" if count
        else f"No tensor of {name} has outliers, of {len(known)}"
    )  # fmt: skip
    return (
        f"{head} (kurtosis above {HEAVY:g}, that of a Laplace distribution, and a maximum above {FAR:g} times the "
        f"99.9th percentile). Kurtosis is highest in {worst.path}, {worst.kurtosis:.1f}, and "
        f"{median(s.kurtosis for s in known):.1f} in the median (normal: 3); the maximum is furthest out in "
        f"{far.path}, {far.ratio:.1f} times the 99.9th percentile."
    )


def _channels(name: str, seen: Sequence[Seen]) -> str:
    few = [s for s in seen if s.reaching <= FEW]
    least = min(seen, key=lambda s: s.reaching)
    said = (
        f"In {len(few)} of {len(seen)} tensors of {name} at most {percent(FEW)} of the channels reach half the maximum"
        if few else f"In every tensor of {name} more than {percent(FEW)} of the channels reach half the maximum"
    )  # fmt: skip
    said += f" (fewest in {least.path}: {percent(least.reaching)} of {len(least.channels.top)})"
    steady = [s for s in seen if s.steady >= STEADY and len(s.channels.top) > 1]
    if name == "weights":
        return f"{said}{'; a scale for every channel keeps them from the others' if few else ''}."
    if not steady:
        return f"{said}; no channel holds the maximum of half the images."
    first = max(steady, key=lambda s: s.steady)
    return (
        f"{said}; in {len(steady)} one and the same channel holds the maximum of at least half the images (channel "
        f"{first.most} of {first.path}: of {percent(first.steady)})."
    )


def _tamed(name: str, seen: Sequence[Seen]) -> str:
    def gains(how: str, bits: int) -> list[tuple[float, Seen]]:
        told = [(s.sqnr[bits][how] - s.sqnr[bits]["plain"], s) for s in seen]
        return [(gain, s) for gain, s in told if math.isfinite(gain)]

    clip, log = gains("clipped", TAMED), gains("log", TAMED)
    if not clip or not log:
        return f"At {TAMED} bits {name} lose nothing."
    won, most = max(clip, key=lambda item: item[0])
    pays, costs = sum(g > PAYS for g, _ in clip), sum(g < -PAYS for g, _ in clip)
    fine = [g for g, _ in gains("clipped", 8)]
    return (
        f"At {TAMED} bits, clipping {name} to 99.9 % of their values wins more than {PAYS:g} dB in {pays} of "
        f"{len(seen)} tensors and loses as much in {costs} (most in {most.path}: "
        f"{decibel(most.sqnr[TAMED]['plain'])} -> {decibel(most.sqnr[TAMED]['clipped'])}, {won:+.1f} dB); powers of "
        f"two beat equal steps in {sum(g > PAYS for g, _ in log)}. At 8 bits, clipping wins as much in "
        f"{sum(g > PAYS for g in fine)} and loses in {sum(g < -PAYS for g in fine)}."
    )


def _norms(found: Distributions) -> str:
    known = [n for n in found.norms if not math.isnan(n.output.rho)]
    return (
        f"Batch norm: {tie(found.output, 'the channels that it amplifies (|gamma| / sigma)', 'the largest outputs')} "
        f"(Spearman {rho(found.output)} over {len(known)} layers, clear in {_clear(known, 'output')}); "
        f"{tie(found.weight, 'they', 'the largest weights once it is folded')} (Spearman {rho(found.weight)}, clear in "
        f"{_clear(known, 'weight')})."
    )


def _clear(norms: Sequence[Norm], which: str) -> int:
    return sum(getattr(n, which).p < CLEAR for n in norms)


def tie(found: Estimate, who: str, what: str) -> str:
    """Whether gain and maximum go together, by the interval of the mean over layers."""
    if math.isnan(found.low):
        return f"whether {who} hold {what} cannot be said"
    if found.low > 0:
        return f"{who} tend to hold {what}"
    return (
        f"{who} tend to hold the smaller of {what}"
        if found.high < 0
        else f"{who} hold {what} no more often than others"
    )


def rho(found: Estimate) -> str:
    """A mean rank correlation with its interval.

    >>> rho(Estimate(0.512, 0.1, 0.8, 7))
    '+0.51 (95 % +0.10 to +0.80)'
    """
    if math.isnan(found.mean):
        return "unknown"
    return f"{found.mean:+.2f}" + ("" if math.isnan(found.low) else f" (95 % {found.low:+.2f} to {found.high:+.2f})")


def _curve(kind: str, curves: Sequence[Curve]) -> str:
    known = [c for c in curves if not math.isnan(c.before[0] + c.after[0])]
    if not known:
        return f"{kind}: its inputs or outputs do not vary."
    up = sum(c.after[0] > FACTOR * c.before[0] for c in known)
    down = sum(c.before[0] > FACTOR * c.after[0] for c in known)
    before, after = (median(getattr(c, side)[0] for c in known) for side in ("before", "after"))
    ratios = [median(getattr(c, side)[1] for c in known) for side in ("before", "after")]
    zeros = median(c.zeros for c in known)
    why = f", for it leaves {percent(zeros)} zeros" if zeros > 0.01 and up > down else ""
    return (
        f"{kind} raises kurtosis in {up} of {len(known)} places and lowers it in {down} (median {before:.1f} -> "
        f"{after:.1f}{why}); the maximum goes from {ratios[0]:.1f} to {ratios[1]:.1f} times the 99.9th percentile."
    )
