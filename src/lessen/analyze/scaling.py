"""How error falls as a model's stored bits grow, for each number of bits a weight, and which one to take at a budget.

The form is error = a x bits^-b + c: a power law, a straight line on two logarithmic scales, above a floor c >= 0 that
no size goes below (noise in labels, data or training). k-bit laws over stored bits: Dettmers & Zettlemoyer 2023,
arXiv:2212.09720; residual nets over model size: Abdolrashidi et al. 2021, arXiv:2105.03536, who find 4 bits best.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lessen.core.record import Row

if TYPE_CHECKING:
    import numpy as np

FEWEST = 3  # sizes: two always lie on some curve
FLOOR_FROM = 4  # sizes: with three, a floor as well would fit anything
EXPLAINS = 0.75  # share of the variance of log error; below it the points do not follow the curve
STEEPEST = 5.0  # exponents searched: a law of sizes is far from it, a cliff is not
DRAWS = 1_000
BUDGETS = 9
SURE = 0.95  # share of resamples


class Fit(Row):
    """error = a x bits^-b + c, errors as shares. `why` says in words why there is no law, else it is empty."""

    arm: str
    sizes: int
    why: str
    a: float | None = None
    b: float | None = None
    c: float | None = None
    low: float | None = None
    high: float | None = None  # 95 % of b over resamples
    miss: float | None = None  # factor by which errors typically lie off the curve, less 1
    explains: float | None = None  # share of the variance of log error over the sizes
    floor: bool = False  # whether c was fitted

    def at(self, bits: float) -> float | None:
        """The curve's error; None where there is no law."""
        if self.why or self.a is None or self.b is None or self.c is None:
            return None
        return self.a * bits**-self.b + self.c


class Held(Row):
    """Who has the lowest error within a budget of bits."""

    budget: float
    arm: str
    share: float  # of resamples in which it has
    sure: bool  # SURE of them or more, where it has a rival; never by one seed, whose resamples show other images alone
    errors: dict[str, float]  # of every arm that has a model so small
    rivals: tuple[str, ...]  # others that the resamples do not exclude, likeliest first


class Price(Row):
    """Bits that an arm needs for an error; the ends are None where more than 2.5 % of the resamples never reach it."""

    arm: str
    bits: float
    low: float | None
    high: float | None


class Law(Row):
    fits: tuple[Fit, ...]
    front: tuple[Held, ...]  # by budget
    level: float | None  # the error that prices are for: half way between what all arms reach and what all start from
    prices: tuple[Price, ...]  # the least first; empty where no error lies in all arms' reach
    seeds: int
    images: int  # 0: resamples are of the seeds' scores alone


class Arm(NamedTuple):
    """Sizes of one number of bits. bits (n,) rising; errors (n,), the means over seeds; draws (resamples, n)."""

    name: str
    bits: np.ndarray
    errors: np.ndarray
    draws: np.ndarray


def law(arms: Sequence[Arm], seeds: int, images: int) -> Law:
    """Fits and front of all arms; the resamples of all are paired, draw by draw."""
    there = [merged(a) for a in arms if len(a.bits)]
    level = common(there)
    return Law(
        fits=tuple(fit(arm, seeds) for arm in arms), front=front(there, seeds), seeds=seeds, images=images, level=level,
        prices=prices(there, level) if level else (),
    )  # fmt: skip


def resampled(right: Sequence[np.ndarray], least: float, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Errors (draws, n) of n models, from right answers (seeds, images) each: seeds and images drawn with replacement.

    The same draw for all, as they share seeds and images. Seeds' scores (seeds, 1) resample the seeds alone.
    least: what no error counts as, since a logarithm has no zero; half of one wrong answer among all images scored.
    """
    import numpy as np

    random = np.random.default_rng(seed)
    seeds, images = right[0].shape
    rows = random.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    columns = random.multinomial(images, np.full(images, 1 / images), draws) / images
    found = [1 - ((rows @ np.asarray(r, float)) * columns).sum(1) for r in right]
    return np.maximum(np.stack(found, 1), least)


def fit(arm: Arm, seeds: int) -> Fit:
    """Least squares of log error, the exponent's interval from the resamples; `why` where the points follow no law."""
    import numpy as np

    n = len(np.unique(arm.bits))
    if n < FEWEST:
        return Fit(arm=arm.name, sizes=n, why=f"a curve needs {FEWEST} sizes or more, and {n} finished")
    floor = n >= FLOOR_FROM
    a, b, c, left = (float(v[0]) for v in solve(arm.bits, arm.errors[None], floor))
    logs = np.log(arm.errors)
    total = float(((logs - logs.mean()) ** 2).sum())
    explains = 1 - left / total if total > 0 else 0.0
    low, high = np.quantile(solve(arm.bits, arm.draws, floor)[1], [0.025, 0.975]) if seeds > 1 else (b, b)
    freedom = max(n - 2 - (c > 0), 1)
    return Fit(
        arm=arm.name, sizes=n, why=_why(b, float(low), explains, seeds), a=a, b=b, c=c, low=float(low),
        high=float(high), miss=float(np.exp(np.sqrt(left / freedom)) - 1), explains=explains, floor=floor,
    )  # fmt: skip


def _why(b: float, low: float, explains: float, seeds: int) -> str:
    if b <= 0:
        return "its error does not fall as bits grow"
    if explains < EXPLAINS:
        return f"its points do not follow a curve, which explains {100 * max(explains, 0):.0f} % of their variance"
    if b >= STEEPEST - 0.01:
        return "its error drops over a cliff, more steeply than a power law would be told from"
    if seeds < 2:
        return "one seed tells nothing of the spread"
    return "its error does not clearly fall as bits grow" if low <= 0 else ""


def solve(bits: np.ndarray, errors: np.ndarray, floor: bool) -> tuple[Any, Any, Any, Any]:
    """a, b, c and the squared misses in log error, (draws,) each, of errors (draws, n) at bits (n,).

    The exponent is searched on a grid, then a finer one twice; a and c follow from it by Gauss-Newton on the logs. So
    there is no start to choose and no local minimum to end in.
    """
    import numpy as np

    unit = float(np.exp(np.log(bits).mean()))
    x = bits / unit
    centre, reach, steps = np.full(len(errors), STEEPEST / 2 - 0.5), STEEPEST / 2 + 0.5, 61
    for _ in range(3):
        grid = np.clip(centre[:, None] + np.linspace(-reach, reach, steps), -1.0, STEEPEST)  # (draws, steps)
        a, c, left = _linear(x[None, None] ** -grid[..., None], errors[:, None], floor)
        best = left.argmin(1)
        rows = np.arange(len(errors))
        centre, reach, steps = grid[rows, best], 2 * reach / (steps - 1), 21
    a, c, left = a[rows, best], c[rows, best], left[rows, best]
    return a * unit**centre, centre, c, left


def _linear(u: Any, errors: Any, floor: bool) -> tuple[Any, Any, Any]:
    """a and c >= 0 of least squares of log(a u + c) - log(errors) over the last axis, and the squares' sum."""
    import numpy as np

    guess = np.broadcast_to(errors, np.broadcast_shapes(errors.shape, u.shape))
    a = c = left = np.empty(0)
    for _ in range(6):
        p, q, t = u / guess, 1 / guess, 1 + np.log(errors / guess)
        pp, pq, qq, pt, qt = ((v * w).sum(-1) for v, w in ((p, p), (p, q), (q, q), (p, t), (q, t)))
        alone = np.maximum(pt / pp, 1e-12)
        if floor:
            det = pp * qq - pq * pq
            det = np.where(det > 1e-12 * pp * qq, det, np.inf)  # u hardly varies: the floor cannot be told from a
            a, c = (pt * qq - qt * pq) / det, (pp * qt - pq * pt) / det
            one = (c <= 0) | (a <= 0)
            a, c = np.where(one, alone, a), np.where(one, 0.0, c)
        else:
            a, c = alone, np.zeros_like(alone)
        guess = np.maximum(a[..., None] * u + c[..., None], 1e-9)
        left = (np.log(errors / guess) ** 2).sum(-1)
    return a, c, left


def merged(arm: Arm) -> Arm:
    """Sizes of equal bits as one, its error their geometric mean: on logarithmic scales what a fitted curve takes, too.

    To take the better one instead would choose by test scores.
    """
    import numpy as np

    bits, place = np.unique(arm.bits, return_inverse=True)

    def means(errors: np.ndarray) -> np.ndarray:
        return np.exp(np.stack([np.log(errors[..., place == i]).mean(-1) for i in range(len(bits))], -1))

    return arm if len(bits) == len(arm.bits) else Arm(arm.name, bits, means(arm.errors), means(arm.draws))


def front(arms: Sequence[Arm], seeds: int) -> tuple[Held, ...]:
    """The best arm at budgets from where two arms have a model to the largest of all; no arm has a size twice."""
    import numpy as np

    if len(arms) < 2:
        return ()
    low, high = sorted(a.bits[0] for a in arms)[1], max(a.bits[-1] for a in arms)
    found = []
    for budget in np.geomspace(low, high, BUDGETS):
        within = [a for a in arms if a.bits[0] <= budget * (1 + 1e-9)]
        now = [float(between(a.bits, a.errors[None], budget)[0]) for a in within]
        drawn = np.stack([between(a.bits, a.draws, budget) for a in within], 1)
        ties = drawn <= drawn.min(1, keepdims=True) * (1 + 1e-9)
        shares = (ties / ties.sum(1, keepdims=True)).mean(0)
        best = int(np.argmin(now))
        rivals = [i for i in np.argsort(-shares) if i != best and shares[i] > 1 - SURE]
        found.append(Held(
            budget=float(budget), arm=within[best].name, share=float(shares[best]),
            sure=bool(shares[best] >= SURE and len(within) > 1 and seeds > 1),
            errors={a.name: e for a, e in zip(within, now, strict=True)}, rivals=tuple(within[i].name for i in rivals),
        ))  # fmt: skip
    return tuple(found)


def common(arms: Sequence[Arm]) -> float | None:
    """An error that every arm reaches and none starts below: the geometric middle of all such."""
    if len(arms) < 2:
        return None
    low, high = (float(pick(getattr(a.errors, end)() for a in arms)) for pick, end in ((max, "min"), (min, "max")))
    return (low * high) ** 0.5 if low < high else None


def prices(arms: Sequence[Arm], level: float) -> tuple[Price, ...]:
    """What each arm needs for that error, read off as in `between`."""
    import numpy as np

    found = []
    for arm in arms:
        ends = np.quantile(needed(arm.bits, arm.draws, level), [0.025, 0.975], method="nearest")
        low, high = (float(end) if np.isfinite(end) else None for end in ends)
        bits = float(needed(arm.bits, arm.errors[None], level)[0])
        found.append(Price(arm=arm.name, bits=bits, low=low, high=high))
    return tuple(sorted(found, key=lambda p: p.bits))


def needed(bits: np.ndarray, errors: np.ndarray, level: float) -> Any:
    """The fewest bits (draws,) at which errors (draws, n) come down to a level; infinite where they never do."""
    import numpy as np

    below = errors <= level
    right = below.argmax(1)
    left, rows = np.maximum(right - 1, 0), np.arange(len(errors))
    high, low = np.log(errors[rows, left]), np.log(errors[rows, right])
    share = np.where(high > low, (high - np.log(level)) / np.where(high > low, high - low, 1), 1)
    logs = np.log(bits)
    return np.where(below.any(1), np.exp(logs[left] + np.clip(share, 0, 1) * (logs[right] - logs[left])), np.inf)


def between(bits: np.ndarray, errors: np.ndarray, budget: float) -> Any:
    """Errors (draws,) at a budget, of errors (draws, n) at rising bits: straight between sizes on logarithmic scales.

    A budget above the largest size is spent on that one: nothing is guessed beyond what was trained.
    """
    import numpy as np

    logs, place = np.log(bits), np.log(budget)
    i = int(np.clip(np.searchsorted(logs, place) - 1, 0, max(len(bits) - 2, 0)))
    if len(bits) == 1 or place >= logs[-1]:
        return errors[:, -1]
    share = float(np.clip((place - logs[i]) / (logs[i + 1] - logs[i]), 0, 1))
    return np.exp((1 - share) * np.log(errors[:, i]) + share * np.log(errors[:, i + 1]))
