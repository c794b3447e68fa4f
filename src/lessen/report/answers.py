"""A question's answer in one to three sentences, made from its numbers by rules; never more than they carry."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from lessen.analyze.comparison import AXES
from lessen.analyze.findings import NEAR, Finding
from lessen.analyze.pareto import ROUNDING
from lessen.analyze.points import Point
from lessen.report import bests, budgets, classes, laws, words
from lessen.report.phrases import change, equal, leaning_only, of, position, reach, sides, unseen

HOLDS = 0.01  # a mean test score at most this far below the baseline's is said to hold
PLAIN = 1.25  # times another arm's latency in the median: more than the noise of timing
MORE = 1.5  # times the first arm's training that are worth a sentence


def answer(finding: Finding) -> tuple[str, ...]:
    """Sentences. Differences are of the test score; "clear" is after Holm's correction over all tests."""
    if not finding.contrasts and not finding.curves:
        return ("Nothing can be said yet: no two arms have finished on the same seed.",)
    if finding.by == "law":
        return laws.sentences(finding)
    said = _curves(finding) if finding.curves else _arms(finding)
    return tuple(s for s in (*said, _alone(finding), _one_seed(finding)) if s)


def _arms(f: Finding) -> list[str]:
    first = f.points[0]
    clear = [c for c in f.contrasts if c.clear]
    rest = [c for c in f.contrasts if not c.clear]
    said = []
    if clear:
        each = [f"{c.arm} scores {change(c)} (95 % {reach(c)})" for c in clear]
        said.append(f"Against {first.arm} ({words.spread(first.test)} on test), {words.listed(each)}: clear.")
    leaning = [c for c in rest if leaning_only(c)]
    if leaning:
        each = [f"{c.arm} ({change(c)}, 95 % {reach(c)})" for c in leaning]
        tests = words.plural(len(f.contrasts), "test")
        said.append(f"Different by the interval alone, not clear after correction over {tests}: {words.listed(each)}.")
    level = [c for c in rest if c not in leaning]
    if level:
        each = [f"{c.arm} ({change(c)}, 95 % {reach(c)})" for c in level]
        hidden = f"; {unseen(level)}" if unseen(level) else ""
        said.append(f"Not clearly different from {first.arm}: {words.listed(each)}{hidden}.")
    if f.by == "class":
        return [*said, *classes.sentences(f)]
    return [*said, _recovered(f), _dearer(f)]


def _recovered(f: Finding) -> str:
    """When the stricter share of the baseline's score was reached for good."""
    parts, never = [], []
    for p in f.points:
        if p.recovery and any(band.epoch for band in p.course):
            r = p.recovery[-1]
            if not r.seeds:
                never.append(p.arm)
                continue
            when = "mostly never" if r.median is None else f"after {words.plural(int(r.median), 'epoch')}"
            earlier = f" of its last training, with {p.earlier:.0f} before" if p.earlier else ""
            parts.append(f"{p.arm} {when}{earlier} ({of(r.seeds, len(r.epochs))})")
    if not parts and not never:
        return ""
    share = next(p.recovery[-1].share for p in f.points if p.recovery)
    reached = f"On validation, {100 * share:.0f} % of the baseline's score was reached for good"
    if not parts:
        return f"{reached} by none within their epochs."
    return f"{reached}: {words.listed(parts)}{f'; never: {words.listed(never)}' if never else ''}."


def _dearer(f: Finding) -> str:
    """Arms whose training took much more arithmetic than the first's."""
    first = f.points[0].effort
    if not (first and first.share):
        return ""
    more = [
        f"{p.arm} {words.factor(p.effort.share / first.share)}"
        for p in f.points[1:]
        if p.effort and p.effort.share and p.effort.share > MORE * first.share
    ]
    first_arm = f.points[0].arm
    return f"Multiply-accumulates of the training, against those of {first_arm}: {words.listed(more)}." if more else ""


def _curves(f: Finding) -> list[str]:
    if f.by == "best":
        return [*bests.sentences(f), *(_met(f, arm) for arm in f.arms[1:])]
    said = budgets.sentences(f) if f.by == "budget" else [_met(f, arm) for arm in f.arms[1:]]
    return [*said, _held(f), _faster(f)]


def _faster(f: Finding) -> str:
    """Latencies of arms that cost the same by another count, where they are plainly not the same."""
    if f.x not in AXES or f.x == "latency":
        return ""
    sized = {arm: [p.size for p in f.of(arm) if p.recipe and p.size] for arm in f.arms}
    batch = max((t.batch for sizes in sized.values() for size in sizes for t in size.times), default=0)
    found = {
        arm: sorted(t.ratio for size in sizes for t in size.times if t.batch == batch and t.ratio)
        for arm, sizes in sized.items()
    }
    known = {arm: ratios for arm, ratios in found.items() if ratios}
    middles = [statistics.median(ratios) for ratios in known.values()]
    if len(middles) < 2 or max(middles) < PLAIN * min(middles):
        return ""
    each = [f"{arm} {_range(ratios)}" for arm, ratios in known.items()]
    return f"Latency at batch {batch}, as a share of the baseline's: {words.listed(each)}."


def _range(values: Sequence[float]) -> str:
    low, high = f"{values[0]:.2f}", f"{values[-1]:.2f}"
    return low if low == high else f"{low} to {high}"


def _met(f: Finding, arm: str) -> str:
    """Where the arm and the first arm meet."""
    met = [c for c in f.contrasts if c.arm == arm]
    if not met:
        return f"{arm} and {f.arms[0]} never have {equal(f)} within {100 * NEAR:.0f} %: no difference can be told."
    at = {p.recipe: position(f, p.x) for p in f.of(f.arms[0])}
    parts = sides(met, lambda c: at[c.against])
    off = max((abs(c.apart) for c in met if c.apart is not None), default=0.0)
    near = f" (within {100 * off:.1f} %)" if off >= 0.0005 else ""
    return f"At equal {equal(f)}{near}, {arm} against {f.arms[0]}: {parts}."


def _held(f: Finding) -> str:
    """How far along x each arm's mean stays close to the baseline's."""
    if f.x not in AXES or f.baseline is None:
        return ""
    parts = []
    for arm in f.arms:
        last = _last([p for p in f.of(arm) if p.recipe], f)
        parts.append(f"{arm} {'nowhere here' if last is None else f'up to {position(f, last.x)}'}")
    to = "down to" if f.x != "sparsity" else "up to"
    listed = words.listed(parts).replace("up to", to)
    return f"The mean test score stays within {words.points(HOLDS)} of the baseline's: {listed}."


def _last(points: Sequence[Point], f: Finding) -> Point | None:
    """The furthest point before the first that loses more."""
    held = None
    for p in points:
        loss = f.loss(p.recipe)
        if loss is None or loss.value < -HOLDS - ROUNDING:
            break
        held = p
    return held


def _alone(f: Finding) -> str:
    """Points that no other could be compared with."""
    if not (f.curves and f.alone and f.contrasts):
        return ""
    count = len(f.alone)
    one = "point lies" if count == 1 else "points lie"
    return f"{count} {one} more than {100 * NEAR:.0f} % from every point of {f.arms[0]} and could not be compared."


def _one_seed(f: Finding) -> str:
    """Nothing is called clear then."""
    few = any(c.seeds == 1 for c in f.contrasts)
    return "One seed cannot tell a recipe from a lucky training, so nothing it shows is called clear." if few else ""
