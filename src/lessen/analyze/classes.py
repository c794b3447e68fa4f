"""Which classes lose: recall by class of arms against the first, and whether the classes differ at all.

Two questions are kept apart. A class lost clearly is a paired difference over its images, corrected over all classes
and arms (Holm). Whether some classes lose more than others has to hold for other seeds (Friedman 1937, seeds as blocks;
of two classes a paired t-test, Student 1908) and for other images (labels permuted over them); the larger p value
counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lessen.analyze import points
from lessen.analyze.points import Answers, Point
from lessen.analyze.predictions import Labels
from lessen.analyze.statistics import LEVEL, holm, paired_difference, seed_difference
from lessen.core.record import Row
from lessen.core.trial import Trial

if TYPE_CHECKING:
    import numpy as np

PERMUTATIONS = 2_000


class Recall(Row):
    """One class under one arm; the difference to the first arm is 0 to 0 for that arm itself. Shares."""

    label: int
    arm: str
    recall: float
    value: float
    low: float
    high: float
    p_holm: float
    clear: bool


class Uneven(Row):
    """Whether an arm takes more from some classes than from others."""

    arm: str
    p: float  # 1 where one seed alone finished
    clear: bool


class Classes(Row):
    images: dict[int, int]  # of each class
    names: tuple[str, ...]  # by label; empty where they are not known
    seeds: int
    recalls: tuple[Recall, ...]
    uneven: tuple[Uneven, ...]  # of all arms but the first

    def name(self, label: int) -> str:
        return self.names[label] if label < len(self.names) else str(label)

    def of(self, arm: str) -> tuple[Recall, ...]:
        return tuple(r for r in self.recalls if r.arm == arm)


def classes_of(
    found: Sequence[Point],
    done: Mapping[tuple[str, int], Trial],
    answers: Answers,
    labels: Labels,
    names: Sequence[str] = (),
) -> Classes | None:
    """Classes over the seeds that all finished arms have; None where predictions, or the first arm, are missing."""
    shown = [p for p in found if p.seeds]
    seeds = sorted(set.intersection(*(set(p.seeds) for p in shown))) if shown else []
    right = {p.arm: points.stacked([done[p.recipe, s] for s in seeds], answers) for p in shown}
    known = {arm: r for arm, r in right.items() if r is not None}
    targets = labels(done[shown[0].recipe, seeds[0]]) if seeds else None
    if (
        targets is None
        or not found[0].seeds
        or len(known) < max(2, len(right))
        or any(r.shape[1] != len(targets) for r in known.values())
    ):
        return None
    return classes(known, targets, names)


def classes(right: Mapping[str, np.ndarray], labels: np.ndarray, names: Sequence[str] = ()) -> Classes:
    """right: by arm, the first first, right answers (seeds, images) of the same seeds. labels: (images,), integers."""
    import numpy as np

    first, *others = right
    known = [int(k) for k in np.unique(labels)]
    seeds = len(right[first])
    tests = {
        (arm, k): paired_difference(right[arm][:, labels == k], right[first][:, labels == k])
        for arm in others
        for k in known
    }
    corrected = dict(zip(tests, holm([d.p for d in tests.values()]), strict=True))
    found = [_recall(first, k, right[first], labels) for k in known]
    for (arm, k), d in tests.items():
        p = corrected[arm, k]
        change = {"value": d.value, "low": d.low, "high": d.high, "p_holm": p}
        clear = bool(d.clear) and seeds > 1 and p <= LEVEL  # a copy is not validated
        found.append(_recall(arm, k, right[arm], labels).model_copy(update={**change, "clear": clear}))
    return Classes(
        images={k: int((labels == k).sum()) for k in known}, names=tuple(names), seeds=seeds, recalls=tuple(found),
        uneven=tuple(uneven(arm, np.asarray(right[arm], float) - right[first], labels) for arm in others),
    )  # fmt: skip


def _recall(arm: str, k: int, right: np.ndarray, labels: np.ndarray) -> Recall:
    mean = float(right[:, labels == k].mean())
    return Recall(label=k, arm=arm, recall=mean, value=0.0, low=0.0, high=0.0, p_holm=1.0, clear=False)


def uneven(arm: str, d: np.ndarray, labels: np.ndarray) -> Uneven:
    """d: right answers of the arm minus those of the first (seeds, images)."""
    import numpy as np

    member = np.stack([labels == k for k in np.unique(labels)], 1).astype(float)  # (images, classes)
    p = max(_other_images(d.mean(0), member), _other_seeds(d @ member / member.sum(0)))
    return Uneven(arm=arm, p=p, clear=p <= LEVEL)


def _other_images(mean: Any, member: Any) -> float:
    """Labels permuted: does the spread of the classes' means exceed that of random parts of the same sizes?"""
    import numpy as np

    random = np.random.default_rng(0)
    sizes = member.sum(0)

    def spread(values: Any) -> float:
        return float((sizes * (values @ member / sizes - values.mean()) ** 2).sum())

    seen = spread(mean)
    more = sum(spread(random.permutation(mean)) >= seen * (1 - 1e-9) for _ in range(PERMUTATIONS))
    return (more + 1) / (PERMUTATIONS + 1)


def _other_seeds(table: Any) -> float:
    """Do the seeds (rows) agree about the order of the classes (columns)? 1 where they cannot be asked.

    Ranks of two classes are signs alone, by which five seeds of one mind reach no p below 2^-4; a t-test of their
    differences uses how large they are, too.
    """
    from scipy.stats import friedmanchisquare

    seeds, classes = table.shape
    if seeds < 2 or classes < 2 or not (table != table[:, :1]).any():
        return 1.0
    if classes == 2:
        return seed_difference(*table.T.tolist()).p
    p = float(friedmanchisquare(*table.T).pvalue)
    return p if p == p else 1.0
