"""A recipe's family, which gives it its colour and its mark: by what its steps changed, not by what they are called."""

from __future__ import annotations

from collections.abc import Sequence

from lessen import catalog
from lessen.core.errors import LessenError
from lessen.core.record import Cost, Record
from lessen.core.text import parse_chain

WORDS = {
    "baseline": "baseline",
    "prune": "pruning",
    "quantize": "quantization",
    "distill": "distillation",
    "factorize": "factorization",
    "nas": "architecture search",
    "combined": "several families",
    "other": "other",
}
SYMBOLS = {
    "baseline": "diamond", "prune": "square", "quantize": "circle", "distill": "triangle-up",
    "factorize": "pentagon", "nas": "star", "combined": "hexagram", "other": "cross",
}  # fmt: skip


def short(recipe: str) -> str:
    """The techniques' names alone: "ChannelPrune + Int8"."""
    if not recipe:
        return "baseline"
    return " + ".join(names(recipe)) or recipe


def names(recipe: str) -> list[str]:
    """Names of the techniques in order; the text itself where it cannot be read."""
    try:
        return [call.name for call in parse_chain(recipe)]
    except LessenError:
        return [recipe]


def parts(recipe: str) -> list[tuple[str, str]]:
    """Each step as its name and its settings, for setting them in different type: [("Int4", "(group=32)")]."""
    try:
        calls = parse_chain(recipe)
    except LessenError:
        return [(recipe, "")]
    return [(call.name, str(call).removeprefix(call.name)) for call in calls]


def family_of(recipe: str, records: Sequence[Record] = ()) -> str:
    """Steps that only train count where no step changed what the model holds: pruning healed by training is pruning."""
    if not recipe:
        return "baseline"
    steps = names(recipe)
    own = records[-len(steps) :]
    changed = [name for name, r in zip(steps, own, strict=False) if _changes(r.before, r.after)] if own else []
    known = catalog.techniques()
    rooms = {known[name].split(".")[1] if name in known else "other" for name in changed or steps}
    return rooms.pop() if len(rooms) == 1 else "combined"


def _changes(before: Cost, after: Cost) -> bool:
    """Training may make or lose a few exact zeros; that is no compression."""
    counted = (before.parameters, before.macs, before.weight_bits) != (after.parameters, after.macs, after.weight_bits)
    return counted or abs(before.nonzeros - after.nonzeros) > 0.01 * before.nonzeros
