"""What arms reach within the same budgets of x: of each the model that validation chose among those that fit."""

from __future__ import annotations

from collections.abc import Sequence

from lessen.analyze.points import Point
from lessen.core.record import Row

SAME = 0.03  # sizes within this share of each other are one budget: that of the largest


class Choice(Row):
    arm: str
    recipe: str


class Budget(Row):
    """A size and what every arm that has anything so small takes for it, in the order of the arms."""

    at: float
    choices: tuple[Choice, ...]

    def of(self, arm: str) -> str | None:
        """An arm's recipe; None where it has nothing so small."""
        return next((c.recipe for c in self.choices if c.arm == arm), None)


def budgets(points: Sequence[Point]) -> tuple[Budget, ...]:
    """Every size that some recipe has is a budget, from the smallest that two arms can keep.

    Nothing is interpolated: a file of 3.5 bits a weight is there or it is not. Validation chooses, where there is one;
    else the largest model that fits is taken. So test scores of the chosen are free of that choice.
    """
    known = [p for p in points if p.x is not None and p.test is not None]
    found = []
    for size in _sizes([p.x for p in known if p.x is not None]):
        fitting = [p for p in known if p.x is not None and p.x <= size]
        arms = dict.fromkeys(p.arm for p in points)
        best = [max(mine, key=_merit) for arm in arms if (mine := [p for p in fitting if p.arm == arm])]
        if len(best) > 1:
            found.append(Budget(at=size, choices=tuple(Choice(arm=p.arm, recipe=p.recipe) for p in best)))
    return tuple(found)


def met(points: Sequence[Point], found: Sequence[Budget], first: str) -> list[tuple[Point, Point]]:
    """The pairs to test: each arm's choice with the first arm's, once however many budgets make them meet."""
    by = {(p.arm, p.recipe): p for p in points}
    pairs = {
        (c.arm, c.recipe, mine): (by[c.arm, c.recipe], by[first, mine])
        for budget in found
        for c in budget.choices
        if c.arm != first and (mine := budget.of(first)) is not None and mine != c.recipe
    }
    return list(pairs.values())


def _sizes(sizes: Sequence[float]) -> list[float]:
    """The largest of each bunch of nearly equal sizes, rising."""
    found: list[float] = []
    start = 0.0
    for size in sorted(sizes):
        if found and size <= start * (1 + SAME):
            found[-1] = size
        else:
            found.append(size)
            start = size
    return found


def _merit(p: Point) -> tuple[float, float]:
    assert p.x is not None
    return (p.validation.mean, -p.x) if p.validation else (p.x, 0.0)
