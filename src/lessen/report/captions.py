"""What a reader must know of the questions' pictures and tables: below each what differs, once what they share."""

from __future__ import annotations

from collections.abc import Sequence

from lessen.analyze.findings import NEAR, Finding
from lessen.analyze.scaling import DRAWS
from lessen.analyze.training import LAST
from lessen.core.record import TOP1
from lessen.report import words


def caption(f: Finding) -> tuple[str, ...]:
    """Sentences below one question."""
    seeds = sorted({len(p.seeds) for p in f.points})
    n = words.plural(seeds[-1], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    tests = len(f.contrasts)
    corrected = f"; p values are corrected over the {tests} tests of this question" if tests > 1 else ""
    found = [_picture(f), f"n = {n}{corrected}.", *_how(f)]
    if any(not c.images for c in f.contrasts):
        why = "the predictions are gone" if f.score == TOP1 else f"{f.score} is no share of right answers"
        found.append(
            f"Intervals and p values are from the seeds' scores alone, because {why}: what other test images would show"
            " is not in them, and a difference that is the same at every seed is not clear."
        )
    return tuple(found)


def reading(findings: Sequence[Finding]) -> tuple[str, ...]:
    """Sentences about all questions together."""
    found = [
        "Scores are mean ± sd over seeds. Differences are of test scores, in points, on the same seeds and test images,"
        " which are resampled together for the 95 % intervals. Clear is p <= 0.05 of a t-test after Holm's correction,"
        " and an interval without zero; behind not clear stands the true difference that four of five such studies"
        " would have called clear, even if no other were real. The scale of scores is logarithmic in the share of wrong"
        " answers."
    ]
    if own := next((f.score for f in findings if f.score != TOP1), ""):
        found.append(f"Scores are the task's own, {own}, no shares of right answers; wrong is what they lack to 100 %.")
    if any(f.curves and not f.by for f in findings):
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


def _how(f: Finding) -> list[str]:
    """How the tables of a law, of budgets or of classes came about."""
    if f.law:
        drawn = words.plural(f.law.seeds, "seed") + (f" and {f.law.images:,} test images" if f.law.images else "")
        return [
            "Curves are fitted to the mean errors, as logarithms, by least squares; intervals and shares are of"
            f" {DRAWS:,} resamples of {drawn}, drawn with replacement and the same for all. So few seeds make them a"
            " little too narrow. Between two sizes of an arm its error is read off a straight line on both logarithmic"
            " scales; above its largest size nothing is guessed, and a larger budget buys that size. The form and the"
            " question are those of Dettmers & Zettlemoyer 2023 (arXiv:2212.09720) and Abdolrashidi et al. 2021"
            " (arXiv:2105.03536)."
        ]
    if f.by == "budget":
        return [
            "Every size that a recipe has is a budget (sizes within 3 % are one). Of each arm stands there what"
            " validation chose among the files that fit; test scores had no part in it. Nothing is interpolated."
        ]
    if f.bests:
        drawn = words.plural(f.bests[0].seeds, "seed")
        return [
            f"Validation chooses the best value, in 2,000 resamples of {drawn} drawn with replacement; how sure it is"
            " for other images of validation is not asked. Test scores had no part in it."
        ]
    if f.classes:
        test = "a paired t-test" if len(f.classes.images) == 2 else "Friedman's test"
        return [
            "Recall is the share of a class's images that are answered rightly. Clear is p <= 0.05 of a t-test after"
            f" Holm's correction over {len(f.classes.recalls) - len(f.classes.images)} tests of classes and arms, and"
            f" an interval without zero. Whether classes differ is asked of other seeds ({test}) and of other images"
            " (labels permuted); the larger p value stands."
        ]
    return []


def _picture(f: Finding) -> str:
    if f.law:
        return (
            "Points are means of one size with their 95 % intervals, dots seeds, lines the fitted curves (thin where no"
            " law could be told: they join the sizes); dotted is the baseline. The strip below has the colour of the"
            " arm with the least error there, pale where that is not sure."
        )
    if f.classes:
        return "Marks are means over seeds of what each class's recall gains or loses, bars 95 % intervals."
    if f.curves:
        return "Lines are means, bands their 95 % intervals, dots seeds; dotted is the baseline."
    left = "Lines are means over seeds, bands reach from the worst seed to the best; " if _trained(f) else ""
    return f"{left}{'dots are' if left else 'Dots are'} seeds, bars 95 % intervals of the mean; dotted is the baseline."


def _trained(f: Finding) -> bool:
    return any(band.epoch for p in f.points for band in p.course)
