"""How many channels must go for so many fewer multiplications or bytes? Found by bisection over real cuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from lessen.core.errors import Refused

TOLERANCE = 0.02  # of the cost at the start, to either side of the goal
FINEST = 1e-4  # between two ratios


class Goal(NamedTuple):
    """A share to remove of the multiplications or of the stored weights' bytes."""

    of: Literal["MACs", "bytes"]
    removed: float


def reach(
    goal: Goal,
    at: Callable[[float], list[int]],
    removed: Callable[[Sequence[int]], float],
    steps: Sequence[int],
) -> tuple[list[int], list[str]]:
    """Units that every group keeps so that the goal is reached, and a note where that goes too far.

    at: units kept at a ratio of channels removed. removed: the share of the cost that such a cut removes, counted on
    the cut model. steps: units that leave a group together. The smallest sufficient ratio is found first; between
    the cut there and the one before, groups are cut one step at a time, the widest first; where the last of these
    steps goes too far, other groups get some back.
    Errors: Refused, naming the furthest, when the goal is more than TOLERANCE beyond it.

    >>> reach(Goal("MACs", 0.5), lambda r: [round(10 * (1 - r))], lambda k: 1 - k[0] / 10, [1])
    ([5], [])
    """
    full, large = at(0.0), at(1.0)
    small = full
    furthest = removed(large)
    if goal.removed <= removed(small):
        return small, []
    if furthest < goal.removed:
        if furthest < goal.removed - TOLERANCE:
            raise Refused(
                f"{goal.removed:.1%} fewer {goal.of} cannot be reached by cutting channels; the furthest is "
                f"{furthest:.1%}, so ask for less, or lower round_to or floor"
            )
        return large, []
    low, high = 0.0, 1.0
    while high - low > FINEST and small != large:
        middle = (low + high) / 2
        keeps = at(middle)
        if removed(keeps) < goal.removed:
            low, small = middle, keeps
        else:
            high, large = middle, keeps
    path = between(small, large, steps)
    below, above = 0, len(path) - 1
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if removed(path[middle]) < goal.removed else (below, middle)
    keeps, over, under = path[above], removed(path[above]) - goal.removed, goal.removed - removed(path[below])
    if over > TOLERANCE:
        keeps = _given_back(keeps, full, steps, lambda k: removed(k) >= goal.removed)
        over = removed(keeps) - goal.removed
    if over <= TOLERANCE:
        return keeps, []
    if under <= TOLERANCE:
        return path[below], []
    return keeps, [
        f"removes {goal.removed + over:.1%} of the {goal.of} where {goal.removed:.1%} was asked: "
        f"the next smaller cut removes {goal.removed - under:.1%}"
    ]


def _given_back(
    keeps: list[int], wide: Sequence[int], steps: Sequence[int], enough: Callable[[list[int]], bool]
) -> list[int]:
    """Groups get back, a step each and the last first, what the cut that went last has made needless."""
    given = True
    while given:
        given = False
        for i in reversed(range(len(keeps))):
            wider = list(keeps)
            wider[i] = min(wide[i], wider[i] + steps[i])
            if wider != keeps and enough(wider):
                keeps, given = wider, True
    return keeps


def between(wide: Sequence[int], narrow: Sequence[int], steps: Sequence[int]) -> list[list[int]]:
    """All cuts from `wide` to `narrow`, both included, one step of one group apart, the last (widest) first.

    >>> between([4, 4], [3, 2], [1, 1])
    [[4, 4], [4, 3], [4, 2], [3, 2]]
    """
    found = [list(wide)]
    for i in reversed(range(len(wide))):
        while found[-1][i] > narrow[i]:
            following = list(found[-1])
            following[i] = max(narrow[i], following[i] - steps[i])
            found.append(following)
    return found
