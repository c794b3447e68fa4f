"""What was found as text for the terminal: findings, then a table for every proposal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lessen.inspect.findings import amount, points

if TYPE_CHECKING:
    from lessen.inspect.closeness.found import Close
    from lessen.inspect.closeness.seeds import Seeds
    from lessen.inspect.inside import Inside
    from lessen.inspect.proposal import Proposal
    from lessen.inspect.side_by_side import Beside
    from lessen.inspect.survey import Sensitivity

AMOUNT = {
    "prune": "sparsity", "channels": "channels removed", "rank": "rank removed", "bits": "bits",
    "clip_weights": "weights within the range", "clip_outputs": "values within the range",
}  # fmt: skip


def text(found: Sensitivity | Beside | Inside | Close | Seeds) -> str:
    """All findings, and the proposals of a scan."""
    return "\n".join([*found.sentences(), *(line for p in getattr(found, "proposals", ()) for line in _table(p))])


def _table(p: Proposal) -> Iterator[str]:
    yield f"\nFor {p.goal} by {p.kind} (reaches {p.reached}):"
    width = max(len(s.path) for s in p.shares)
    for s in p.shares:
        yield f"    {s.path.ljust(width)}  {amount(p.kind, s.ratio):>{6 if p.kind == 'bits' else 4}}  {s.reason}"
    yield from summary(p)
    if p.recipe:
        yield f"    {p.recipe}"


def summary(p: Proposal) -> list[str]:
    """What the proposal costs, and what the same ratio everywhere would."""
    said = [
        f"All at once, before any training: {score(p.score)} instead of {score(p.dense)}; "
        f"layer by layer the drops add up to {points(p.summed)}."
    ]
    if p.even:
        said.append(
            f"The same {'bits' if p.kind == 'bits' else 'ratio'} everywhere, {amount(p.kind, p.even.ratio)}: "
            f"{score(p.even.score)}; layer by layer {points(p.even.summed)}."
        )
    return said


def score(share: float) -> str:
    """A score in percent."""
    return f"{100 * share:.1f} %"
