"""Phrases that several answers share: where on x, how far apart, how sure, and what would not have been seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lessen.analyze.comparison import AXES
from lessen.analyze.findings import Contrast, Finding
from lessen.report import words


def position(finding: Finding, x: float | None) -> str:
    """A value of x as people read it."""
    if x is None:
        return words.DASH
    if finding.x not in AXES:
        return f"{x:g}"
    if finding.x == "latency":
        return f"{x:.2f}"
    if finding.x == "sparsity":
        return words.percent(x, 0 if abs(100 * x - round(100 * x)) < 0.05 else 1)
    if finding.x == "bits":
        return words.bits(x)
    return words.size(x) if finding.x == "bytes" else words.number(x)


def change(c: Contrast) -> str:
    """ "2.1 points lower"."""
    return words.lost(-c.value)


def reach(c: Contrast) -> str:
    """The interval of a difference in points: "-3.0 to -1.2"; unknown where it could be anything."""
    return "unknown" if (c.low, c.high) == (-1, 1) else f"{words.signed(c.low)} to {words.signed(c.high)}"


def unseen(contrasts: Sequence[Contrast]) -> str:
    """How large a difference may hide behind "not clear"."""
    sizes = sorted(c.smallest for c in contrasts if c.smallest is not None)
    if not sizes:
        return ""
    apart = sizes[-1] > 2 * sizes[0] and len(sizes) > 1
    least = f"{100 * sizes[0]:.1f} to {words.points(sizes[-1])}" if apart else words.points(sizes[-1])
    return f"a true difference below {least} would usually not have been seen"


def leaning_only(c: Contrast) -> bool:
    """The interval lacks zero, but the corrected test says nothing."""
    return not c.clear and not c.low <= 0 <= c.high


def sides(contrasts: Sequence[Contrast], place: Callable[[Contrast], str]) -> str:
    """Where an arm is clearly lower, clearly higher, or not clearly different; `place` names a contrast's x."""
    parts = []
    for low, word in ((True, "lower"), (False, "higher")):
        found = [c for c in contrasts if c.clear and (c.value < 0) is low]
        if found:
            sizes = sorted(abs(c.value) for c in found)
            by = words.points(sizes[-1]) if len(found) == 1 else f"{100 * sizes[0]:.1f} to {words.points(sizes[-1])}"
            parts.append(f"clearly {word} at {words.listed([place(c) for c in found])} (by {by})")
    leaning = [c for c in contrasts if leaning_only(c)]
    if leaning:
        where = words.listed([place(c) for c in leaning])
        parts.append(f"different by the interval alone, not clear after correction, at {where}")
    rest = [c for c in contrasts if not c.clear and c not in leaning]
    if rest:
        where = words.listed([place(c) for c in rest])
        hidden = f" ({unseen(rest)})" if unseen(rest) else ""
        parts.append(f"not clearly different at {where}{hidden}")
    return "; ".join(parts)


def equal(f: Finding) -> str:
    return {"macs": "MACs", "nonzero macs": "non-zero MACs"}.get(f.x, f.x.rpartition(".")[2].replace("_", " "))


def of(count: int, all_: int) -> str:
    """ "3 of 5 seeds"."""
    return f"{count} of {words.plural(all_, 'seed')}"
