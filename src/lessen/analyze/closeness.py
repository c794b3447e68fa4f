"""How close an arm answers to the baseline, beyond its score: same answers, KL, JS, and whether its shares hold.

From stored predictions alone. Every measure is a mean over test images, so that seeds and images, both samples, give
its interval and its tests; an arm of seed s is compared with the baseline of seed s, which taught it where something
did. Expected calibration error (Guo et al. 2017, arXiv:1706.04599) is such a mean as well, of each image's gap with the
sign of its bin's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zipfile import BadZipFile

from lessen.analyze import statistics
from lessen.analyze.comparison import Comparison
from lessen.analyze.findings import Finding
from lessen.analyze.statistics import LEVEL, Difference, holm, wilson
from lessen.core.record import Row
from lessen.core.text import parse_chain
from lessen.core.trial import Trial

if TYPE_CHECKING:
    import numpy as np

TESTED = ("agreement", "kl", "js", "ece")
BINS = 10  # of calibration, each with as many images
FLOOR = 2.0**-25  # half of the smallest share that a stored prediction can hold


class Shares(NamedTuple):
    """Predictions of the test images: shares (n, classes) that add up to 1, and the right classes (n,)."""

    p: np.ndarray
    targets: np.ndarray


ReadShares = Callable[[Trial], Shares | None]


class Amount(Row):
    """Mean over seeds and images with its 95 % interval for other seeds and other images; `values` by seed."""

    value: float
    low: float
    high: float
    values: tuple[float, ...]


class Near(Row):
    """One recipe in its arm. amounts: agreement, kl (of the arm from the baseline) and js in nats, ece, entropy.

    calibrated: the ece that a perfectly calibrated model with these confidences shows by chance, on average.
    """

    arm: str
    recipe: str
    seeds: tuple[int, ...]
    images: int
    amounts: dict[str, Amount]
    calibrated: float


class Apart(Row):
    """A measure of a recipe minus that of another on the same seeds and images; p_holm: over all tests here."""

    arm: str
    recipe: str
    against: str
    measure: str
    value: float
    low: float
    high: float
    smallest: float | None  # true difference that four of five such studies would call clear; None where none can be
    p: float
    p_holm: float
    clear: bool  # never by one seed, nor by one image
    seeds: int
    images: int

    @property
    def closer(self) -> bool:
        """Towards the baseline, or for ece towards confidences that hold."""
        return self.value > 0 if self.measure == "agreement" else self.value < 0


class Closeness(Row):
    """All of a comparison. between: how far baselines of two seeds are apart, over ordered `pairs` of them: a scale."""

    nears: tuple[Near, ...]
    tests: tuple[Apart, ...]
    baseline: Near
    between: dict[str, float]
    pairs: int

    def near(self, arm: str, recipe: str) -> Near | None:
        return next((n for n in self.nears if (n.arm, n.recipe) == (arm, recipe)), None)

    def test(self, arm: str, recipe: str, measure: str) -> Apart | None:
        return next((t for t in self.tests if (t.arm, t.recipe, t.measure) == (arm, recipe, measure)), None)


def wanted(comparison: Comparison) -> bool:
    """As asked for; where nothing is said, when an arm has a student and no law, budget or the like is asked."""
    if comparison.close is not None:
        return comparison.close
    return not comparison.by and any(
        call.name == "Student" for recipe in comparison.recipes for call in parse_chain(recipe)
    )


def stored(run: Path) -> ReadShares:
    """Reads the predictions beside the rows of a run folder; None where they are gone or not all finite."""
    import numpy as np

    def read(trial: Trial) -> Shares | None:
        if not trial.predictions or trial.measurement is None:
            return None
        try:
            with np.load(run / trial.predictions) as file:
                p, top, targets = file["probabilities"].astype(np.float64), file["classes"], file["targets"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None
        if not (np.isfinite(p).all() and len(p) == len(top) == len(targets) == trial.measurement.test.n):
            return None
        return Shares(whole(p, top), targets)

    return read


def whole(p: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Shares (n, classes) read from 16 bits, as 64-bit numbers that add up to 1.

    Near 1 those have steps of 0.0005, but the small shares keep three digits; so the largest, of classes `top`, is what
    the others leave. A share too small to be stored counts `FLOOR`.
    """
    import numpy as np

    found, rows = np.maximum(p.astype(np.float64), FLOOR), np.arange(len(p))
    found[rows, top] = 0
    found[rows, top] = np.maximum(1 - found.sum(1), FLOOR)
    return found


def find(finding: Finding, trials: Sequence[Trial], read: ReadShares) -> Closeness | None:
    """Measure all points of a finding and test the pairs that it tests; None where no predictions are left."""
    known = {t.key: shares for t in trials if t.status == "done" and (shares := read(t)) is not None}
    bases = {seed: shares for (recipe, seed), shares in known.items() if not recipe}
    if not bases or len({len(s.p) for s in known.values()}) != 1:
        return None
    seen = {
        recipe: {seed: _measures(bases[seed], known[recipe, seed]) for seed in bases if (recipe, seed) in known}
        for recipe in ("", *(p.recipe for p in finding.points))
    }
    points = [(p.arm, p.recipe) for p in finding.points if seen[p.recipe]]
    pairs = [(c.arm, c.recipe, c.against) for c in finding.contrasts if seen[c.recipe] and seen[c.against]]
    between = [_measures(bases[a], bases[b]) for a, b in permutations(bases, 2)]
    return Closeness(
        nears=tuple(_near(arm, recipe, seen[recipe], known) for arm, recipe in points),
        baseline=_near("baseline", "", seen[""], known), tests=_tests(pairs, seen), pairs=len(between),
        between={m: float(sum(b[m].mean() for b in between) / len(between)) for m in TESTED[:3]} if between else {},
    )  # fmt: skip


Seen = Mapping[int, Mapping[str, "np.ndarray"]]  # by seed and measure, of each image


def _measures(base: Shares, other: Shares) -> dict[str, np.ndarray]:
    """What each image adds to every measure: (n,) each."""
    import numpy as np

    p, q = base.p, other.p
    middle = (p + q) / 2
    js = ((p * np.log(p / middle)).sum(1) + (q * np.log(q / middle)).sum(1)) / 2
    return {
        "agreement": (p.argmax(1) == q.argmax(1)).astype(float), "kl": (p * np.log(p / q)).sum(1), "js": js,
        "ece": gaps(q.max(1), q.argmax(1) == other.targets), "entropy": -(q * np.log(q)).sum(1),
    }  # fmt: skip


def gaps(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Confidence minus right (n,), with the sign that makes each bin's sum positive: their mean is the ece."""
    import numpy as np

    found = confidence - right
    for rows in _bins(confidence):
        found[rows] *= np.sign(found[rows].sum()) or 1.0
    return found


def by_chance(confidence: np.ndarray) -> float:
    """The ece that confidences (n,) show on average where all are true: each bin's sum is nearly normal around 0."""
    import numpy as np

    spreads = [math.sqrt((confidence[rows] * (1 - confidence[rows])).sum()) for rows in _bins(confidence)]
    return math.sqrt(2 / math.pi) * float(np.sum(spreads)) / len(confidence)


def _bins(confidence: np.ndarray) -> list[np.ndarray]:
    import numpy as np

    return np.array_split(np.argsort(confidence, kind="stable"), min(BINS, len(confidence)))


def _near(arm: str, recipe: str, seen: Seen, known: Mapping[tuple[str, int], Shares]) -> Near:
    import numpy as np

    stacked = {m: np.stack([rows[m] for rows in seen.values()]) for m in next(iter(seen.values()))}
    chance = [by_chance(known[recipe, seed].p.max(1)) for seed in seen]
    return Near(
        arm=arm, recipe=recipe, seeds=tuple(seen), images=next(iter(stacked.values())).shape[1],
        amounts={m: _amount(m, values, bool(recipe)) for m, values in stacked.items()},
        calibrated=float(np.mean(chance)),
    )  # fmt: skip


def _amount(measure: str, values: np.ndarray, sampled: bool) -> Amount:
    """sampled: not the baseline itself, which agrees with itself on all images. Where another one does, other images
    may still tell them apart: Wilson's interval of that share."""
    found = mean(values)
    most = {"agreement": 1.0, "ece": 1.0, "js": math.log(2)}.get(measure, math.inf)
    low, high = max(0.0, found.low), min(most, found.high)
    if measure == "agreement" and sampled and found.error == 0:
        low, high = wilson(round(found.value * found.images), found.images)
    return Amount(value=found.value, low=low, high=high, values=tuple(values.mean(1).tolist()))


def _tests(pairs: Sequence[tuple[str, str, str]], seen: Mapping[str, Seen]) -> tuple[Apart, ...]:
    import numpy as np

    found: list[tuple[str, str, str, str, Difference]] = []
    for arm, recipe, against in pairs:
        shared = [s for s in seen[recipe] if s in seen[against]]
        for m in TESTED if shared else ():
            d = mean(np.stack([seen[recipe][s][m] - seen[against][s][m] for s in shared]))
            found.append((arm, recipe, against, m, d))
    corrected = holm([d.p for *_, d in found])
    return tuple(_apart(test, p, len(found)) for test, p in zip(found, corrected, strict=True))


def _apart(test: tuple[str, str, str, str, Difference], p: float, tests: int) -> Apart:
    arm, recipe, against, measure, d = test
    able = d.seeds > 1 and d.images > 1
    smallest = d.smallest(tests) if able else math.nan
    return Apart(
        arm=arm, recipe=recipe, against=against, measure=measure, value=d.value, low=d.low, high=d.high, p=d.p,
        p_holm=p, smallest=smallest if math.isfinite(smallest) else None, clear=p <= LEVEL and able,
        seeds=d.seeds, images=d.images,
    )  # fmt: skip


def mean(values: np.ndarray) -> Difference:
    """Mean of values (seeds, images) with its t interval, both drawn; see `statistics` for error and freedom."""
    from scipy.special import stdtrit

    error, freedom = statistics._standard_error(values)
    value, half = float(values.mean()), float(stdtrit(max(freedom, 1), 0.975)) * error
    return Difference(value, value - half, value + half, error, freedom, *values.shape)
