"""What arms reach within the same budgets, in words and as a table."""

from __future__ import annotations

from lessen.analyze.budgets import Budget
from lessen.analyze.findings import Contrast, Finding
from lessen.report import words
from lessen.report.phrases import equal, position, reach, sides
from lessen.report.question_tables import NONE, Cell, Grid


def sentences(f: Finding) -> list[str]:
    """Each arm against the first, wherever both have something within a budget."""
    if not f.budgets:
        return ["No budget is kept by two arms yet, so nothing can be compared."]
    said = []
    for arm in f.arms[1:]:
        met = [c for c in f.contrasts if c.arm == arm]
        if met:
            shared = sum(b.of(arm) is not None and b.of(f.arms[0]) is not None for b in f.budgets)
            said.append(
                f"Within the same {equal(f)} ({shared} budgets), {arm} against {f.arms[0]}:"
                f" {sides(met, lambda c: _where(f, c))}."
            )
        else:
            said.append(f"{arm} and {f.arms[0]} keep no budget together: no difference can be told.")
    return said


def grids(f: Finding) -> tuple[Grid, ...]:
    """Budgets against arms."""
    if not f.budgets:
        return ()
    heads = [("best", "by validation"),
             *((arm, "test score of the model that validation chose among those that fit; below, points to"
                     f" {f.arms[0]}'s, 95 % interval") for arm in f.arms)]  # fmt: skip
    rows = [(position(f, b.at), [_best(f, b), *(_cell(f, b, arm) for arm in f.arms)]) for b in f.budgets]
    return (Grid(f"{equal(f).capitalize()} at most", heads, rows),)


def _where(f: Finding, c: Contrast) -> str:
    """The budgets at which this pair meets."""
    places = [b.at for b in f.budgets if b.of(c.arm) == c.recipe and b.of(f.arms[0]) == c.against]
    low, high = position(f, places[0]), position(f, places[-1])
    return low if low == high else f"{low} to {high}"


def _best(f: Finding, b: Budget) -> Cell:
    known = [(p.validation.mean, p) for c in b.choices for p in f.of(c.arm) if p.recipe == c.recipe and p.validation]
    if not known:
        return NONE
    top = max(score for score, _ in known)
    return Cell(" or ".join(dict.fromkeys(p.arm for score, p in known if score == top)), words.percent(top))


def _cell(f: Finding, b: Budget, arm: str) -> Cell:
    recipe = b.of(arm)
    point = next((p for p in f.of(arm) if p.recipe == recipe), None) if recipe is not None else None
    if recipe is None or point is None:
        return NONE
    c = f.contrast(recipe, arm, b.of(f.arms[0]))
    below = "" if c is None else f"{words.signed(c.value)}, {reach(c)}{', clear' if c.clear else ''}"
    return Cell(words.spread(point.test), below)
