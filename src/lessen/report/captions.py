"""What a reader must know of a question's pictures and tables, said once for page and Markdown."""

from __future__ import annotations

from lessen.analyze.findings import NEAR, Finding
from lessen.analyze.training import LAST
from lessen.report import words


def caption(f: Finding) -> tuple[str, ...]:
    """Sentences below a question's tables."""
    seeds = sorted({len(p.seeds) for p in f.points})
    n = words.plural(seeds[-1], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    found = [_pictures(f), f"n = {n}; scores are mean ± sd over seeds.", _differences(f)]
    if f.curves:
        most = f"{100 * NEAR:.0f} %"
        found.append(f"Points are compared where x differs by at most {most}; below x stands by how much it does.")
    if any(p.recovery for p in f.points):
        found.append(
            "Epochs to 95 % and 99 % count the recipe's own training until validation stays above that share of the"
            " baseline's score to the end: the median, and how many seeds. Wobble is the sd of validation over the last"
            f" {LAST} epochs."
        )
    found.append(
        "Training is epochs x MACs of the model trained, in units of the baseline's own training; a step from one size"
        " to another counts their mean, a teacher's passes nothing."
    )
    return tuple(found)


def _pictures(f: Finding) -> str:
    scale = "the scale is logarithmic in the share of wrong answers"
    if f.curves:
        return f"Lines are means, bands their 95 % intervals, dots seeds; dotted is the baseline; {scale}."
    return (
        "Lines are means over seeds, bands reach from the worst seed to the best; on the right every dot is a seed and"
        f" every bar the 95 % interval of the mean; dotted is the baseline; {scale}."
    )


def _differences(f: Finding) -> str:
    alone = any(not c.images for c in f.contrasts)
    how = (
        "from the seeds' scores alone, because the predictions are gone: what other test images would show is not in it"
        if alone else "by resampling seeds and test images together"
    )  # fmt: skip
    return (
        f"Differences are of test scores, in points, on the same seeds and images, with 95 % intervals {how};"
        f" clear is p <= 0.05 after Holm's correction over the {words.plural(len(f.contrasts), 'test')} of this"
        " question, and an interval without zero; in brackets is the difference that four of five such studies would"
        " have shown."
    )
