"""Ratios for every layer that reach a goal at the smallest summed drop of the score, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lessen.analyze.allocation import allocate, least
from lessen.core.errors import BadField, LessenError
from lessen.inspect.bits import bits
from lessen.inspect.findings import Row, Scan, amount, percent, points
from lessen.inspect.goals import Goal

if TYPE_CHECKING:
    from lessen.inspect.amounts import Amount

TECHNIQUE = {"prune": "MagnitudePrune", "channels": "ChannelPrune", "rank": "LowRank", "bits": "MixedBits"}
FIELD = "layers"  # of a technique, for (path, ratio) of layers with a ratio of their own


@dataclass(frozen=True)
class Share:
    """What one layer loses, what that alone costs, and why."""

    path: str
    ratio: float
    drop: float
    reason: str


@dataclass(frozen=True)
class Even:
    """The same ratio everywhere, to compare with: the smallest of the grid that reaches the goal."""

    ratio: float
    summed: float
    score: float


@dataclass(frozen=True)
class Proposal:
    """summed: drops of the layers one by one, which the allocation minimizes. score: measured with all of them
    changed at once, on the same images, before any training. reached: the goal's share that this gives.
    """

    kind: str
    goal: str
    reached: str
    shares: tuple[Share, ...]
    summed: float
    dense: float
    score: float
    even: Even | None
    recipe: str  # empty when the technique takes no ratios by layer yet

    @property
    def layers(self) -> tuple[tuple[str, float], ...]:
        """(path, ratio) of every layer that changes, or (path, bits), as the technique takes them."""
        return _layers(self.kind, self.shares)


def check(goal: Goal, kind: str, amount: Amount, ratios: Sequence[float]) -> None:
    """Errors: BadField when no choice on the grid reaches the goal; says the furthest that does."""
    options = (0.0, *ratios)
    counts = [len(options)] * (1 + max(i for term in amount.terms for i in term.layers))
    furthest = max(ratios) if goal.even else 1 - amount.share(least(counts, amount.terms))
    if (1 - goal.keep) > furthest + 1e-9:
        raise BadField(
            f"goal {goal} cannot be reached by the scan '{kind}' with {_limit(kind, max(ratios))}; "
            f"the furthest is {goal.said(1 - furthest)}"
        )


def propose(goal: Goal, scan: Scan, amount: Amount, together: Callable[[Sequence[float]], float]) -> Proposal:
    """Solve the allocation. together: the score when every layer has its ratio, in the order of the scan's rows."""
    options, drops = (0.0, *scan.ratios), scan.drops()
    flat = _even(goal, amount, options, len(drops))
    if goal.even:
        assert flat is not None  # `check` came first
        choice: Sequence[int] | None = flat
    else:
        lean = [[max(row.drop, 1e-6) * ratio for ratio in options] for row in scan.rows]  # ties: spare the sensitive
        choice = allocate(drops, amount.terms, amount.most(goal.keep), lean)
    assert choice is not None
    chosen = [options[c] for c in choice]
    shares = tuple(
        Share(row.path, options[c], loss[c], _reason(scan, row, loss, c, goal.even))
        for row, loss, c in zip(scan.rows, drops, choice, strict=True)
    )
    even = None
    if flat is not None and not goal.even:
        same = options[flat[0]]
        even = Even(same, sum(loss[flat[0]] for loss in drops), together([same] * len(drops)))
    reached = min(chosen) if goal.even else 1 - amount.share(choice)
    return Proposal(
        scan.kind, str(goal), goal.said(1 - reached), shares, sum(s.drop for s in shares), scan.dense,
        together(chosen), even, recipe(scan.kind, _layers(scan.kind, shares)),
    )  # fmt: skip


def _even(goal: Goal, amount: Amount, options: Sequence[float], n: int) -> list[int] | None:
    """The smallest ratio for all layers alike that reaches the goal."""
    for option, ratio in enumerate(options):
        removed = ratio if goal.even else 1 - amount.share([option] * n)
        if removed >= 1 - goal.keep - 1e-9:
            return [option] * n
    return None


def _layers(kind: str, shares: Sequence[Share]) -> tuple[tuple[str, float], ...]:
    return tuple((s.path, bits(s.ratio) if kind == "bits" else s.ratio) for s in shares if s.ratio)


def _limit(kind: str, most: float) -> str:
    return f"no fewer than {amount(kind, most)}" if kind == "bits" else f"ratios up to {most:g}"


def _reason(scan: Scan, row: Row, loss: Sequence[float], c: int, even: bool) -> str:
    options = [amount(scan.kind, ratio) for ratio in (0.0, *scan.ratios)]
    holds = f"holds {percent(row.share)} of the weights" if row.share >= 0.01 else "holds under 1 % of the weights"
    if even:
        return f"as every layer; alone it costs {points(loss[c])}"
    if c == 0 and not loss[1]:
        return f"kept whole: the goal needs none of it, and it {holds}"
    if c == 0:
        return f"kept whole: it {holds}, and already {options[1]} costs {points(loss[1])}"
    if c + 1 == len(options):
        furthest = "fewest bits" if scan.kind == "bits" else "largest ratio"
        return f"the {furthest} scanned costs {_little(loss[c])}, and it {holds}"
    step = loss[c + 1] - loss[c]
    then = f"{options[c + 1]} would cost {points(step)} more" if step > 0 else "the goal needs no more of it"
    return f"costs {_little(loss[c])}, {then}; it {holds}"


def _little(drop: float) -> str:
    return f"only {points(drop)}" if 0 < drop < 0.01 else points(drop) if drop else "nothing here"


def recipe(kind: str, layers: tuple[tuple[str, float], ...]) -> str:
    """The recipe's text, when its technique takes (path, ratio) or (path, bits) pairs: no other layer changes."""
    from lessen import catalog

    technique = catalog.technique(TECHNIQUE[kind])
    if not layers:
        return ""
    try:
        return str(technique(**{**(technique.neutral or {}), FIELD: layers}))
    except LessenError:  # a ratio that this technique does not take
        return ""
