"""Which classes lose, in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from lessen.analyze.classes import Classes, Recall, Uneven
from lessen.analyze.findings import Finding
from lessen.report import words
from lessen.report.question_tables import Cell, Grid

MOST = 3  # classes named of an arm


def sentences(f: Finding) -> list[str]:
    """Arm by arm; those that lose no class together."""
    found = f.classes
    if found is None:
        return ["By class nothing can be told: the predictions of an arm are gone."]
    arms = [arm for arm in f.arms[1:] if found.of(arm)]
    said = [_some(found, arm) for arm in arms]
    level = [arm for arm, text in zip(arms, said, strict=True) if not text]
    return [*filter(None, said), _level(f, found, level), _uneven(found), _layers()]


def grids(f: Finding) -> tuple[Grid, ...]:
    """Classes against arms."""
    found = f.classes
    if found is None:
        return ()
    heads = [
        (arm, f"recall, mean over {words.plural(found.seeds, 'seed')}; below, points to {f.arms[0]}'s, 95 % interval")
        for arm in f.arms if found.of(arm)
    ]  # fmt: skip
    rows = [
        (f"{found.name(k)} ({n} images)", [_cell(r, f.arms[0]) for r in found.recalls if r.label == k])
        for k, n in found.images.items()
    ]
    return (Grid("Class", heads, rows),)


def _cell(r: Recall, first: str) -> Cell:
    if r.arm == first:
        return Cell(words.percent(r.recall))
    below = f"{words.signed(r.value)}, {words.signed(r.low)} to {words.signed(r.high)}{', clear' if r.clear else ''}"
    return Cell(words.percent(r.recall), below)


def _some(found: Classes, arm: str) -> str:
    """The classes that an arm changes clearly, else by the interval alone, the largest losses first."""
    clear = [r for r in found.of(arm) if r.clear]
    mine = sorted(clear or (r for r in found.of(arm) if not r.low <= 0 <= r.high), key=lambda r: r.value)
    if not mine:
        return ""
    each = [_named(found, r) for r in mine[:MOST]]
    more = [f"{len(mine) - MOST} more"] if len(mine) > MOST else []
    sure = "clear" if clear else "by the interval alone, not clear"
    return f"{arm} changes the recall of {words.listed([*each, *more])}: {sure} after correction over {_tests(found)}."


def _level(f: Finding, found: Classes, arms: Sequence[str]) -> str:
    """Arms whose intervals all hold zero, each with its worst class."""
    if not arms:
        return ""
    each = []
    for arm in arms:
        worst = min(found.of(arm), key=lambda r: r.value)
        each.append(f"{arm} (at most {_named(found, worst)})" if worst.value < 0 else f"{arm} (none falls at all)")
    return f"No class plainly falls or rises, against {f.arms[0]}, with {words.listed(each)}."


def _named(found: Classes, r: Recall) -> str:
    reach = f"{words.signed(r.low)} to {words.signed(r.high)}"
    return f"class {found.name(r.label)} by {words.signed(r.value)} points (95 % {reach})"


def _uneven(found: Classes) -> str:
    """Whether some classes lose more than others; nothing of one seed."""
    if found.seeds == 1:
        return ""
    apart = [u for u in found.uneven if u.clear]
    level = [u for u in found.uneven if not u.clear]
    said = []
    if apart:
        said.append(f"Some classes lose more than others with {words.listed([_with_p(u) for u in apart])}")
    if level:
        said.append(f"{'whether' if said else 'Whether'} some lose more than others is not clear with"
                    f" {words.listed([_with_p(u) for u in level])}")  # fmt: skip
    return "; ".join(said) + "." if said else ""


def _with_p(u: Uneven) -> str:
    return f"{u.arm} (p {'< 0.001' if u.p < 0.001 else f'= {u.p:.2g}'})"


def _layers() -> str:
    return "Predictions cannot tell which layers do it; lessen inspect MODEL --sensitivity bits asks every layer alone."


def _tests(found: Classes) -> str:
    return words.plural(sum(len(found.of(u.arm)) for u in found.uneven), "test")
