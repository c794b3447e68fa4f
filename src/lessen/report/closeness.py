"""How close the arms answer to the baseline: sentences, captions and tables, made from the numbers by rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from lessen.analyze.closeness import BINS, Amount, Apart, Closeness, Near
from lessen.analyze.findings import Finding
from lessen.analyze.points import Point
from lessen.report import words
from lessen.report.answers import position
from lessen.report.question_tables import NONE, Cell, Column, Table, place

NAMES = {"agreement": "same answer", "kl": "KL", "js": "JS", "ece": "calibration error"}
SHARES = ("agreement", "ece")  # told in percent and points, the others in nats
HINTS = {
    "agreement": "share of test images with the baseline's answer of the same seed, right or wrong; 95 % interval",
    "kl": "Kullback-Leibler divergence of the arm's shares from the baseline's, nats; 0 is equal; 95 % interval",
    "js": "Jensen-Shannon divergence, nats; 0 is equal, 0.69 is nothing shared; 95 % interval",
    "ece": "expected calibration error, 95 % interval; by chance: what shares that hold would show",
    "entropy": "of the arm's own shares, nats; the less, the surer it is of its answers",
}


def sentences(close: Closeness, f: Finding) -> list[str]:
    """What the answer to the question says of it."""
    said = [_best(close, f)] if f.curves else [_levels(close)]
    tests = [t for t in close.tests if t.measure != "ece"]
    return [s for s in (*said, *_compared(tests, f), _held(close, f), _scale(close)) if s]


def _levels(close: Closeness) -> str:
    each = [f"{n.arm} on {words.percent(n.amounts['agreement'].value)} (KL {_kl(n)})" for n in close.nears]
    return f"The baseline's answer on test images is given by {words.listed(each)}." if each else ""


def _best(close: Closeness, f: Finding) -> str:
    if not close.nears:
        return ""
    best = min(close.nears, key=lambda n: n.amounts["kl"].value)
    at = next(position(f, p.x) for p in f.points if (p.arm, p.recipe) == (best.arm, best.recipe))
    return (
        f"Closest to the baseline's shares by the mean is {best.arm} at {at} (KL {_kl(best)}), chosen as the "
        f"best of {len(close.nears)} on these images, which flatters it."
    )


def _kl(n: Near) -> str:
    return f"{nats(n.amounts['kl'].value)}{words.HARD}nats"


def nats(value: float) -> str:
    """Two digits, and no sign of nothing."""
    return f"{value:.2g}" if abs(value) >= 5e-5 else "0"


def _compared(tests: Sequence[Apart], f: Finding) -> list[str]:
    """Clearly closer, clearly further, and what cannot be told; against the first arm."""
    first, said = f.arms[0], []
    for closer, word in ((True, "closer to"), (False, "further from")):
        found = [t for t in tests if t.clear and t.closer is closer]
        if found:
            said.append(f"Clearly {word} the baseline than {first}: {_listed(found, f)}.")
    rest = [t for t in tests if not t.clear]
    if rest:
        several = any(t.seeds > 1 for t in rest)
        kl = [t.smallest for t in rest if t.measure == "kl" and t.smallest is not None and t.seeds > 1]
        hidden = f"; a true difference of KL below {max(kl):.2g} nats would usually not have been seen" if kl else ""
        why = hidden if several else "; one seed shows nothing clearly"
        named = _places(rest, f) if f.curves else _named(rest, tests)
        said.append(f"Not clearly closer or further than {first}: {named}{why}.")
    return said


def _places(tests: Sequence[Apart], f: Finding) -> str:
    """Arms with the places on the curve at which some measure is not clear."""
    found: dict[str, dict[str, list[str]]] = {}
    at = {(p.arm, p.recipe): position(f, p.x) for p in f.points}
    for t in tests:
        found.setdefault(t.arm, {}).setdefault(NAMES[t.measure], []).append(at[t.arm, t.recipe])
    return words.listed([
        f"{arm} ({', '.join(f'{name} at {words.listed(places)}' for name, places in by.items())})"
        for arm, by in found.items()
    ])  # fmt: skip


def _named(rest: Sequence[Apart], tests: Sequence[Apart]) -> str:
    """Arms, with the measures that are not clear where others are; the values stand in the table."""
    found: dict[str, list[str]] = {}
    for t in rest:
        found.setdefault(t.arm, []).append(NAMES[t.measure])
    told = Counter(t.arm for t in tests)
    return words.listed([a if len(by) == told[a] else f"{a} ({', '.join(by)})" for a, by in found.items()])


def _listed(tests: Sequence[Apart], f: Finding) -> str:
    grouped: dict[tuple[str, str], list[str]] = {}
    for t in tests:
        grouped.setdefault((t.arm, t.recipe), []).append(f"{NAMES[t.measure]} {change(t)}")
    places = {(p.arm, p.recipe): f" at {position(f, p.x)}" if f.curves else "" for p in f.points}
    return words.listed([f"{key[0]}{places[key]} ({', '.join(found)})" for key, found in grouped.items()])


def change(t: Apart) -> str:
    """ "+2.1 points" or "-0.31 nats"."""
    if t.measure in SHARES:
        one = words.signed(t.value)
        return f"{one}{words.HARD}point{'' if one in ('+1.0', '-1.0') else 's'}"
    return f"{t.value:+.2g}{words.HARD}nats"


def _held(close: Closeness, f: Finding) -> str:
    """Arms whose shares do not hold: even the interval's low end is above what chance shows."""
    if f.curves:
        return ""
    off = [n for n in close.nears if n.amounts["ece"].low > 1.5 * n.calibrated]
    each = [f"{n.arm} by {words.points(n.amounts['ece'].value)}" for n in off]
    base = words.points(close.baseline.amounts["ece"].value)
    return (
        f"Confidence misses the share of right answers, in {words.listed(each)} (the baseline by {base})."
        if each
        else ""
    )


def _scale(close: Closeness) -> str:
    if not close.between:
        return "How far two baselines lie apart is not known from one seed."
    same, kl = words.percent(close.between["agreement"]), nats(close.between["kl"])
    return f"For scale: baselines of two seeds give the same answer on {same}, KL {kl}{words.HARD}nats."


def caption(close: Closeness) -> tuple[str, ...]:
    """What a reader must know of the numbers."""
    tests = len(close.tests)
    corrected = f"; p values of closeness are corrected over its {words.plural(tests, 'test')}" if tests > 1 else ""
    return (
        f"Closeness is to the baseline of the same seed, on {words.plural(close.baseline.images, 'test image')}; a"
        " close arm shares the baseline's mistakes as well; dotted is how close baselines of two seeds are"
        f"{corrected}. Calibration error has {BINS} bins of equal count, and more than chance is an error. Shares are"
        " stored in 16 bits, and one below 6e-8 counts as 3e-8: a KL of many nats is understated.",
    )


def tables(close: Closeness, f: Finding) -> tuple[Table, ...]:
    """How close each recipe is, and against the first arm."""
    levels = [Column(*_head(m), _level(close, m)) for m in (*NAMES, "entropy")]
    found = [Table("Closeness to the baseline", [*place(f), *levels])]
    if close.tests:
        about = "less the first arm's, on the same seeds and images; p of the t-test after Holm's correction"
        columns = [Column(NAMES[m], about, _test(close, m)) for m in NAMES]
        found.append(Table(f"Closeness against {f.arms[0]}", [*place(f), *columns]))
    return tuple(found)


def _head(measure: str) -> tuple[str, str]:
    unit = "" if measure in SHARES else ", nats"
    return f"{NAMES.get(measure, measure)}{unit}", HINTS[measure]


def _level(close: Closeness, measure: str) -> Callable[[Point], Cell]:
    def cell(p: Point) -> Cell:
        near = close.near(p.arm, p.recipe)
        if near is None:
            return NONE
        amount = near.amounts[measure]
        chance = f", by chance {words.percent(near.calibrated)}" if measure == "ece" else ""
        value = words.percent(amount.value) if measure in SHARES else nats(amount.value)
        return Cell(value, f"{span(amount, measure)}{chance}")

    return cell


def span(amount: Amount, measure: str) -> str:
    """An interval in the measure's unit."""
    if measure in SHARES:
        return words.interval((amount.low, amount.high))
    return f"[{nats(amount.low)}, {nats(amount.high)}]"


def _test(close: Closeness, measure: str) -> Callable[[Point], Cell]:
    def cell(p: Point) -> Cell:
        t = close.test(p.arm, p.recipe, measure)
        if t is None:
            return NONE
        p_text = "p < 0.001" if t.p_holm < 0.001 else f"p = {t.p_holm:.2g}"
        return Cell(change(t), f"{p_text}, {'clear' if t.clear else 'not clear'}")

    return cell
