"""What a reader must know of the questions' pictures and tables: below each what differs, once what they share."""

from __future__ import annotations

from collections.abc import Sequence

from lessen.analyze.findings import NEAR, Finding
from lessen.analyze.training import LAST
from lessen.report import words


def caption(f: Finding) -> tuple[str, ...]:
    """Sentences below one question."""
    seeds = sorted({len(p.seeds) for p in f.points})
    n = words.plural(seeds[-1], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    tests = len(f.contrasts)
    corrected = f"; p values are corrected over the {tests} tests of this question" if tests > 1 else ""
    found = [_picture(f), f"n = {n}{corrected}."]
    if any(not c.images for c in f.contrasts):
        found.append(
            "Intervals and p values are from the seeds' scores alone, because the predictions are gone: what other test"
            " images would show is not in them."
        )
    return tuple(found)


def reading(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Sentences about all questions together."""
    found = [
        "Scores are mean ± sd over seeds. Differences are of test scores, in points, on the same seeds and test images,"
        " which are resampled together for the 95 % intervals. Clear is p <= 0.05 of a t-test after Holm's correction,"
        " and an interval without zero; behind not clear stands the difference that four of five such studies would"
        " have shown. The scale of scores is logarithmic in the share of wrong answers."
    ]
    if any(f.curves for f in findings):
        most = f"{100 * NEAR:.0f} %"
        found.append(f"Curves are compared where x differs by at most {most}; below x stands by how much it does.")
    if any(p.recovery for f in findings for p in f.points):
        found.append(
            "To 95 % and to 99 % are epochs of the recipe's own training until validation stays above that share of the"
            " baseline's score to the end: the median, and how many seeds. Wobble is the sd of validation over the last"
            f" {LAST} epochs."
        )
    found.append(
        "Training is epochs x MACs of the model trained, in units of the baseline's own training; a step from one size"
        " to another counts their mean, a teacher's passes nothing. Latency is a ratio to the baseline's file."
    )
    return tuple(found)


def _picture(f: Finding) -> str:
    if f.curves:
        return "Lines are means, bands their 95 % intervals, dots seeds; dotted is the baseline."
    left = "Lines are means over seeds, bands reach from the worst seed to the best; " if _trained(f) else ""
    return f"{left}{'dots are' if left else 'Dots are'} seeds, bars 95 % intervals of the mean; dotted is the baseline."


def _trained(f: Finding) -> bool:
    return any(band.epoch for p in f.points for band in p.course)
