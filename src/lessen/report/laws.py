"""A law of scaling in words and in two tables: the curve of each number of bits, and which one to take at a budget."""

from __future__ import annotations

from collections.abc import Sequence

from lessen.analyze.findings import Finding
from lessen.analyze.scaling import SURE, Fit, Held, Law, Price
from lessen.report import words
from lessen.report.phrases import equal, position
from lessen.report.question_tables import NONE, Cell, Grid

ONE_SEED = "One seed cannot tell a recipe from a lucky training, so nothing here is sure."


def sentences(f: Finding) -> tuple[str, ...]:
    """Who holds the front and how surely, what one error costs each arm, and the laws."""
    if f.law is None:
        return ("Nothing can be said yet: no seed has finished in every size.",)
    said = [_front(f, f.law), _prices(f, f.law), _never(f, f.law), _laws(f.law), _none(f.law)]
    return tuple(s for s in (*said, ONE_SEED if f.law.seeds == 1 else "") if s)


def grids(f: Finding) -> tuple[Grid, ...]:
    """Curves, then the front."""
    return () if f.law is None else (_curves(f.law), _budgets(f, f.law))


def _front(f: Finding, law: Law) -> str:
    if not law.front:
        return ""
    runs: list[list[Held]] = []
    for held in law.front:
        if runs and runs[-1][0].arm == held.arm:
            runs[-1].append(held)
        else:
            runs.append([held])
    sure, all_ = sum(held.sure for held in law.front), len(law.front)
    best = f"Within the same {equal(f)}, the least error is that of {_runs(f, runs, all_)}"
    if law.seeds == 1:
        return f"{best}, by this one seed."
    at = "none" if not sure else "all" if sure == all_ else str(sure)
    rest = "" if sure == all_ else "; elsewhere those named in the table could be better"
    return f"{best}. This is sure at {at} of {all_} budgets ({100 * SURE:.0f} % of the resamples or more){rest}."


def _runs(f: Finding, runs: Sequence[Sequence[Held]], all_: int) -> str:
    """From where to where each arm holds the front; only how often, where arms take turns, as chance does."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run[0].arm] = counts.get(run[0].arm, 0) + len(run)
    if len(runs) > len(counts):
        (first, times), *rest = sorted(counts.items(), key=lambda item: -item[1])
        return words.listed([f"{first} at {times} of {all_} budgets", *(f"{arm} at {n}" for arm, n in rest)])
    *before, last = runs
    parts = [f"{run[0].arm} up to {position(f, run[-1].budget)}" for run in before]
    return words.listed([*parts, f"{last[0].arm} {'beyond' if before else 'throughout'}"])


def _prices(f: Finding, law: Law) -> str:
    """The bits that each arm needs for one error in reach of all."""
    if not law.prices:
        return ""
    each = [f"{position(f, p.bits)} with {p.arm} (95 % {_span(f, p)})" for p in law.prices]
    return f"To come down to {words.percent(law.level)} wrong answers takes {words.listed(each)}."


def _span(f: Finding, p: Price) -> str:
    if p.low is None or p.high is None:
        return "not reached in some resamples"
    return f"{position(f, p.low).partition(words.THIN)[0]} to {position(f, p.high)}"


def _never(f: Finding, law: Law) -> str:
    """Arms that the resamples keep off the front, everywhere or up to some budget; one seed's can keep none off."""
    nowhere, late = [], []
    if law.seeds == 1:
        return ""
    for fit in law.fits:
        there = [held for held in law.front if fit.arm in held.errors]
        could = [i for i, held in enumerate(there) if fit.arm in (held.arm, *held.rivals)]
        if there and not could:
            nowhere.append(fit.arm)
        elif could and could[0] > 0:
            late.append(f"{fit.arm} only from {position(f, there[could[0]].budget)} on")
    parts = [f"{words.listed(nowhere)} nowhere"] if nowhere else []
    return f"The resamples allow {words.listed([*parts, *late])}." if parts or late else ""


def _laws(law: Law) -> str:
    told = [fit for fit in law.fits if not fit.why]
    if not told:
        return ""
    each = [f"{exponent(fit)} with {fit.arm}" for fit in told]
    misses = sorted(fit.miss or 0.0 for fit in told)
    off = f"{100 * misses[0]:.0f} to {100 * misses[-1]:.0f} %" if len(told) > 1 else f"{100 * misses[0]:.0f} %"
    said = f"Error falls as bits^-b above a floor, with b = {words.listed(each)}; errors lie {off} off these curves."
    if len(told) > 1:
        same = max(fit.low or 0 for fit in told) <= min(fit.high or 0 for fit in told)
        said += " The exponents cannot be told apart." if same else " Some of these exponents differ plainly."
    return said


def exponent(fit: Fit) -> str:
    """ "0.91 (95 % 0.72 to 1.15)"."""
    return f"{fit.b:.2f} (95 % {fit.low:.2f} to {fit.high:.2f})"


def _none(law: Law) -> str:
    reasons: dict[str, list[str]] = {}
    for fit in law.fits:
        if fit.why:
            reasons.setdefault(fit.why, []).append(fit.arm)
    without = [f"{words.listed(arms)} ({why})" for why, arms in reasons.items()]
    return f"No law can be told for {'; nor for '.join(without)}." if without else ""


def _curves(law: Law) -> Grid:
    heads = [
        ("sizes", "of the model"), ("exponent b", "of error = a x bits^-b + c; 95 % of the resamples"),
        ("twice the bits", "what it leaves of the error above the floor"),
        ("floor c", "share of wrong answers that no size goes below; a dash where three sizes cannot tell it"),
        ("off the curve", "typical distance of a size's error from it"),
        ("explained", "share of the variance of log error over the sizes"),
    ]  # fmt: skip
    return Grid("Law", heads, [(fit.arm, _fit_cells(fit)) for fit in law.fits])


def _fit_cells(fit: Fit) -> list[Cell]:
    sizes = Cell(str(fit.sizes))
    if fit.why or fit.b is None:
        explained = NONE if fit.explains is None else Cell(words.percent(fit.explains, 0))
        return [sizes, Cell("no law", fit.why), NONE, NONE, NONE, explained]
    return [
        sizes, Cell(f"{fit.b:.2f}", f"{fit.low:.2f} to {fit.high:.2f}"), Cell(f"x{words.THIN}{2**-fit.b:.2f}"),
        Cell(words.percent(fit.c)) if fit.floor else NONE, Cell(words.percent(fit.miss, 0)),
        Cell(words.percent(fit.explains, 0)),
    ]  # fmt: skip


def _budgets(f: Finding, law: Law) -> Grid:
    heads = [("best", "least error; below, who else the resamples do not exclude"),
             ("resamples", "share in which it is the best"),
             *((arm, "share of wrong answers, between its sizes by a straight line on both logarithmic scales, and"
                     " above its largest that one's") for arm in f.arms)]  # fmt: skip
    rows = [(position(f, held.budget), _held_cells(held, f.arms)) for held in law.front]
    return Grid(f"{equal(f).capitalize()} at most", heads, rows)


def _held_cells(held: Held, arms: Sequence[str]) -> list[Cell]:
    rivals = f"or {' or '.join(held.rivals)}" if held.rivals else ""
    errors = [Cell(words.percent(held.errors[arm])) if arm in held.errors else NONE for arm in arms]
    return [Cell(held.arm, rivals), Cell(words.percent(held.share, 0), "sure" if held.sure else ""), *errors]
