"""How close models are over seeds, in words; every sentence follows from numbers by a rule that is written here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lessen.inspect.closeness.measures import Kind
from lessen.inspect.closeness.words import preferred
from lessen.report.words import listed

if TYPE_CHECKING:
    from lessen.analyze.over_seeds import Gap, Mean
    from lessen.inspect.closeness.seeds import Line, Nearer, Seeds

SCALE = {"%": 100, "points": 100, "nats": 1, "": 1}
FEW = 5  # seeds below which it is said how much a t-test asks
RIGHT = Kind("answers", "right", "%", 1, 0.0, 1.0)
OF_IMAGES = "attention of what an image adds to each model's mean map"
CLOSER, CALIBRATED = ("closer", "further"), ("better calibrated", "worse")


def answers(found: Seeds) -> list[str]:
    """How alike the answers are, and those of two trainings of the original."""
    lines = found.of("answers")
    said = [f"{name}: {_row(lines, i)}." for i, name in enumerate(found.names[1:])]
    scale = [f"{line.kind.title} {number(line.kind, line.between.value)}" for line in lines if line.between]
    return [*said, f"For scale, originals of two seeds: {', '.join(scale)}."] if scale else said


def calibration(found: Seeds) -> list[str]:
    """Whose confidence holds."""
    (line,) = found.of("calibration")
    held = zip(found.names, (line.original, *line.means), strict=True)
    return [f"Calibration error: {', '.join(f'{name} {told(line.kind, m)}' for name, m in held if m)}."]


def features(found: Seeds) -> list[str]:
    """Which layers see alike."""
    lines = found.of("features")
    if not lines:
        return ["No place of all models is alike, so no features are compared."]
    said = [
        f"{name}: {_row(lines, i) or 'no place like one of the original'}." for i, name in enumerate(found.names[1:])
    ]
    scale = [f"{number(line.kind, line.between.value)} {line.kind.title[4:]}" for line in lines if line.between]
    return [*said, f"For scale, CKA of originals of two seeds: {', '.join(scale)}."] if scale else said


def gaze(found: Seeds) -> list[str]:
    """Where the models look."""
    said = [f"No Grad-CAM: {found.unseen}." if found.unseen else f"Grad-CAM is of {found.layer}, {OF_IMAGES}."]
    for line in found.of("gaze"):
        parts = [f"{name} {told(line.kind, m)}" for name, m in zip(found.names[1:], line.means, strict=True) if m]
        scale = [
            f"{what} {number(line.kind, m.value)}"
            for what, m in (("two images", line.another), ("originals of two seeds", line.between)) if m
        ]  # fmt: skip
        said.append(f"{line.kind.title}: {', '.join(parts)}{f' ({listed(scale)})' if parts and scale else ''}.")
    return said


def verdicts(found: Seeds) -> list[str]:
    """In what the first is closer than each rival, clearly or not."""
    if len(found.seeds) < 2:
        return []
    said = []
    for k, rival in enumerate(found.names[2:]):
        for groups, pair in ((("answers", "features", "gaze"), CLOSER), (("calibration",), CALIBRATED)):
            known = [(line.kind, g) for line in found.lines if line.kind.group in groups and (g := line.gaps[k])]
            said += [f"Against {rival}, {found.names[1]} is {text}." if (text := _verdict(known, pair)) else ""]
    return [*filter(None, said)]


def _verdict(known: Sequence[tuple[Kind, Gap]], pair: tuple[str, str]) -> str:
    better = [_by(kind, g) for kind, g in known if g.clear and g.value * kind.way > 0]
    worse = [_by(kind, g) for kind, g in known if g.clear and g.value * kind.way < 0]
    same = [kind.title for kind, g in known if g.p is None]
    open_ = [kind.title for kind, g in known if g.p is not None and not g.clear]
    parts = [
        f"clearly {pair[0]} in {listed(better)}" if better else "", 
        f"clearly {pair[1]} in {listed(worse)}" if worse else "",
        f"not clearly {pair[0]} or {pair[1]} in {listed(open_)}" if open_ else "",
        f"the same distance away at every seed, or measured at one alone, in {listed(same)}" if same else "",
    ]  # fmt: skip
    return "; ".join(filter(None, parts))


def _by(kind: Kind, g: Gap) -> str:
    return f"{kind.title} by {difference(kind, g)}"


def nearer(found: Seeds) -> list[str]:
    """Image by image."""
    said = []
    for rival in range(2, len(found.names)):
        mine = [one for one in found.nearer if one.rival == rival]
        parts = [f"{one.measure} {share(one)}{'' if one.gap.clear or _one(found) else ', not clear'}" for one in mine]
        said.append(preferred(found.names, rival, parts))
    return said


def limits(found: Seeds) -> list[str]:
    """What cannot be told from this."""
    n = len(found.seeds)
    where = (
        "Pictures are in the page of one seed, by: lessen inspect RUN/artifacts/baseline-"
        f"{found.seeds[0]} --beside RUN/artifacts/... --close"
    )
    if n < 2:
        return [
            "One seed shows nothing clearly: there is no interval and no test, for another seed may turn it round. Run "
            f"the study with several. {where}"
        ]
    few = f" With {n} seeds only large or very steady differences come out clear." if n <= FEW else ""
    tests = (
        f"Clear is p <= 0.05 of a paired t-test over seeds after Holm's correction over all {found.tests} tests; not "
        f"clear is not equal: the page says from which difference on it would have been seen.{few}"
    )
    return [
        f"Intervals (95 %) and tests are over {n} seeds, all asked the same {found.images} validation images; what "
        "other images or another study would show is not in them.", *([tests] if found.tests else []), where,
    ]  # fmt: skip


def notes(found: Seeds) -> list[str]:
    """What was left out, or is odd."""
    return list(found.notes)


PARTS = (answers, calibration, features, gaze, verdicts, nearer, notes, limits)


def lead(found: Seeds) -> str:
    """The page's first sentence."""
    agree, kl = found.of("answers")[:2]
    parts = [
        f"{name} answers like it on {number(agree.kind, a.value)} (KL {number(kl.kind, b.value)})"
        for name, a, b in zip(found.names[1:], agree.means, kl.means, strict=True) if a and b
    ]  # fmt: skip
    n = len(found.seeds)
    return f"How close to the original, {f'{n} seeds' if n > 1 else 'one seed'}: {'; '.join(parts)}."


def number(kind: Kind, value: float) -> str:
    """With its unit: "93.1 %", "0.24 nats", "0.85"."""
    return f"{plain(kind, value)} {kind.unit}".rstrip()


def plain(kind: Kind, value: float, sign: str = "") -> str:
    """Without it."""
    kept = ".1f" if kind.unit in ("%", "points") else ".2g" if kind.unit == "nats" else ".2f"
    text = format(SCALE[kind.unit] * value, sign + kept)
    return text.replace("-", "") if float(text) == 0 else text


def tick(kind: Kind, value: float) -> str:
    """An end of an axis, without its unit."""
    return f"{SCALE[kind.unit] * value:.4g}"


def told(kind: Kind, m: Mean | None) -> str:
    """A mean and its interval, with the unit.

    >>> from lessen.analyze.over_seeds import mean
    >>> from lessen.inspect.closeness.measures import AGREE
    >>> told(AGREE, mean([0.9, 0.92]))
    '91.0 % (78.3 to 103.7)'
    """
    if m is None:
        return "-"
    return number(kind, m.value) + ("" if math.isnan(m.low) else f" ({plain(kind, m.low)} to {plain(kind, m.high)})")


def difference(kind: Kind, g: Gap | None) -> str:
    """The first less a rival, with its interval and its unit."""
    if g is None:
        return "-"
    unit = {"%": "points", "points": "points", "nats": "nats", "": ""}[kind.unit]
    ends = "" if math.isnan(g.low) else f" ({plain(kind, g.low, '+')} to {plain(kind, g.high, '+')})"
    return " ".join(filter(None, (plain(kind, g.value, "+"), unit))) + ends


def smallest(kind: Kind, g: Gap | None) -> str:
    """From which true difference on it would have been seen."""
    return plain(kind, g.smallest) if g and g.smallest is not None and math.isfinite(g.smallest) else "-"


def p(g: Gap | None) -> str:
    if g is None or g.p_holm is None:
        return "-"
    return "< 0.001" if g.p_holm < 0.001 else f"{g.p_holm:.2g}"


def word(found: Seeds, g: Gap | None) -> str:
    """The test's answer."""
    if g is None:
        return "-"
    known = sum(math.isfinite(v) for v in g.values)
    if known < 2 or _one(found):
        return "one seed"
    return "same at every seed" if g.p is None else "clear" if g.clear else "not clear"


def share(one: Nearer) -> str:
    """Of images, in percent."""
    low, high = (100 * end for end in (one.share.low, one.share.high))
    return f"{100 * one.share.value:.1f} %" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


def _one(found: Seeds) -> bool:
    return len(found.seeds) < 2


def _row(lines: Sequence[Line], i: int) -> str:
    """All measures of one model."""
    return ", ".join(f"{line.kind.title} {told(line.kind, m)}" for line in lines if (m := line.means[i]))
