"""Error propagation in words: the bottleneck and its likely reason; every word follows from numbers by a rule here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from lessen.inspect.findings import CLEAR, percent

if TYPE_CHECKING:
    from lessen.inspect.stage_errors import Propagated, StageRow
    from lessen.ops.propagation import Fit

CLIPPING = 0.5  # of the squared error lies on clipped values: they are the reason
STRETCHED = 0.6  # of the range is used by the middle 99.9 % of the values, or less: outliers stretch it
COARSE = 4  # bits, or fewer, are few levels
MUCH = 2.0  # times its equal share of the noise at the answer: that is a bottleneck
INDEPENDENT = 1.0  # dB between summed and measured noise
SAME = 40.0  # dB of the file against the simulated model: one rounding step here and there


def sentences(one: Propagated) -> Iterator[str]:
    """What was found for one quantized form."""
    yield (
        f"{one.name}: the answers keep an SQNR of {decibel(one.output.sqnr_db)} (MSE {one.output.mse:.2g}, MAE "
        f"{one.output.mae:.2g}); {percent1(one.agreement)} have the same class."
    )
    yield f"{one.name}: {_bottleneck(one)}"
    if math.isfinite(one.mended):
        better = one.mended > one.output.sqnr_db
        yield (
            f"{one.name}: with {one.bottleneck.path} alone in float, the answers would have "
            f"{decibel(one.mended)} instead of {decibel(one.output.sqnr_db)}"
            f"{'' if better else ', no more: its error partly cancels those of others'}."
        )
    yield f"{one.name}: {_along(one)}"
    yield f"{one.name}: {_sum(one)}"
    if not math.isnan(one.tails.rho):
        yield f"{one.name}: {_tails(one)}"
    if said := _file(one):
        yield f"{one.name}: {said}"


def _bottleneck(one: Propagated) -> str:
    row, equal = one.bottleneck, 1 / len(one.rows)
    if len(one.rows) > 1 and row.share < MUCH * equal:
        head = (
            f"no stage is a clear bottleneck; first is {row.path} with {percent(row.share)} of the noise at the answer "
            f"(an equal share is {percent(equal)})"
        )
    else:
        head = (
            f"the bottleneck is {row.path}: quantized alone, it makes {percent(row.share)} of the noise at the answer"
        )
    return f"{head} and {decibel(row.alone.sqnr_db)} at its own output. Likely reason: {reason(one, row)}."


def part(row: StageRow) -> str:
    """Whose quantization makes most of a stage's own noise."""
    return "weights" if row.weights.mse > row.activations.mse else "activations"


def reason(one: Propagated, row: StageRow) -> str:
    """Why this stage, from the part that makes most of its noise, and from its place."""
    chosen = part(row)
    whole = row.weights.mse + row.activations.mse
    share = getattr(row, chosen).mse / whole if whole else 0.0
    fit = weakest(row, chosen)
    said = f"{percent(share)} of its own noise is of its {chosen}"
    if fit is not None:
        said += f", and {why(fit)}"
    own = [r.alone.sqnr_db for r in one.rows if math.isfinite(r.alone.sqnr_db)]
    if len(own) > 2 and row.alone.sqnr_db > median(own):
        said += (
            f"; its own SQNR is better than the median stage's ({decibel(median(own))}), so its place matters: the "
            "layers behind it pass its error on to the answer more than others'"
        )
    return said


def weakest(row: StageRow, chosen: str) -> Fit | None:
    """The quantizer of that part with the lowest SQNR."""
    fits = [fit for where, fit in row.fits.items() if (where == "weights") == (chosen == "weights")]
    return min(fits, key=lambda fit: fit.sqnr_db, default=None)


def why(fit: Fit) -> str:
    """What in the values costs most, by how they sit in the range."""
    if fit.clip_noise >= CLIPPING:
        share = percent(fit.clip_noise)
        return f"clipping: {small(fit.clipped)} of the values lie outside the range and make {share} of that"
    if fit.used <= STRETCHED:
        return (
            f"outliers: the middle 99.9 % of the values use {percent(fit.used)} of the range (kurtosis "
            f"{fit.kurtosis:.1f}, normal is 3)"
        )
    if fit.bits <= COARSE:
        return (
            f"few levels: {fit.bits} bits, {fit.levels} different integers in use; range and tails are sound (the "
            f"middle 99.9 % use {percent(fit.used)} of the range, kurtosis {fit.kurtosis:.1f})"
        )
    return (
        f"plain rounding to {fit.bits} bits: neither clipping ({small(fit.clipped)} of the values) nor outliers (the "
        f"middle 99.9 % use {percent(fit.used)} of the range) stand out"
    )


def _along(one: Propagated) -> str:
    """How the accumulated SQNR runs along depth, and its largest fall."""
    rows = [row for row in one.rows if math.isfinite(row.accumulated.sqnr_db)]
    if len(rows) < 2:
        return "it is too short to say how errors run along depth."
    falls = [(a.accumulated.sqnr_db - b.accumulated.sqnr_db, a, b) for a, b in pairwise(rows)]
    fall, a, b = max(falls, key=lambda item: item[0])
    clear = one.depth.p < CLEAR and not math.isnan(one.depth.rho)
    trend = ("errors grow with depth" if one.depth.rho < 0 else "errors shrink with depth") if clear else (
        "errors neither grow nor shrink clearly with depth"
    )  # fmt: skip
    lowest = min(rows, key=lambda row: row.accumulated.sqnr_db)
    return (
        f"{trend} ({one.depth}): the accumulated SQNR starts at {decibel(rows[0].accumulated.sqnr_db)} and is lowest "
        f"at {lowest.path}, {decibel(lowest.accumulated.sqnr_db)}; it falls most from {a.path} to {b.path}, by "
        f"{decibel(fall)}."
    )


def _sum(one: Propagated) -> str:
    apart = one.output.sqnr_db - one.summed
    head = f"the stages' own noises at the answer sum up to {decibel(one.summed)}"
    if not math.isfinite(apart):
        return f"{head}."
    if abs(apart) <= INDEPENDENT:
        return f"{head}, measured are {decibel(one.output.sqnr_db)}: errors add up as if independent."
    if apart > 0:
        return f"{head}, measured are {decibel(one.output.sqnr_db)}: errors partly cancel."
    return f"{head}, measured are only {decibel(one.output.sqnr_db)}: errors make each other worse."


def _tails(one: Propagated) -> str:
    if one.tails.p >= CLEAR:
        return f"heavy tails do not tell which stage's activations lose most (kurtosis and own SQNR: {one.tails})."
    word = "lose more" if one.tails.rho < 0 else "lose less"
    return (
        f"stages whose outputs have heavier tails {word} by quantized activations (kurtosis and own SQNR: {one.tails})."
    )


def _file(one: Propagated) -> str:
    both = [(row, row.file, row.model_file) for row in one.rows if row.file is not None and row.model_file is not None]
    if not both:
        return ""
    apart = max(abs(_capped(file.sqnr_db) - _capped(row.accumulated.sqnr_db)) for row, file, _ in both)
    worst, _, lowest = min(both, key=lambda item: item[2].sqnr_db)
    verdict = "shows the same errors" if lowest.sqnr_db >= SAME or apart <= 0.5 else "differs"
    return (
        f"the shipped file {verdict}: at {len(both)} of {len(one.rows)} stages its accumulated SQNR is within "
        f"{apart:.2f} dB of these; it is furthest from the simulated model at {worst.path}, {decibel(lowest.sqnr_db)}."
    )


def _capped(value: float) -> float:
    return min(value, 999.0)


def decibel(value: float) -> str:
    """An SQNR as people read it.

    >>> decibel(31.26), decibel(math.inf)
    ('31.3 dB', 'no error')
    """
    return f"{value:.1f} dB" if math.isfinite(value) else "no error" if value > 0 else "no signal"


def small(share: float) -> str:
    """A share that may be tiny.

    >>> small(0.00012), small(0.0)
    ('0.012 %', 'none')
    """
    return f"{100 * share:.2g} %" if share else "none"


def percent1(share: float) -> str:
    return f"{100 * share:.1f} %"
