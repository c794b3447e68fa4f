"""Closeness from stored predictions: numbers by hand, what 16 bits cost, both samples in the intervals, gone files."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_rows import trial

from lessen.analyze import closeness
from lessen.analyze.closeness import Shares
from lessen.analyze.comparison import Comparison
from lessen.analyze.findings import find
from lessen.analyze.statistics import wilson

ARMS = {"alone": "Student() >> Finetune()", "taught": "Student() >> LogitDistill()"}
ASKED = Comparison(question="?", arms=ARMS)
TARGETS = np.array([0, 0, 0, 1])
BASE = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
NEAR = np.array([[0.7, 0.3], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])


def rows(seeds=(0, 1)):
    return [trial(recipe, s, 0.75, n=4) for recipe in ("", *ARMS.values()) for s in seeds]


def reader(table: dict[str, np.ndarray], targets=TARGETS):
    return lambda t: Shares(table[t.recipe], targets) if t.recipe in table else None


def found(table, trials=None, comparison=ASKED, targets=TARGETS):
    trials = rows() if trials is None else trials
    return closeness.find(find(comparison, trials), trials, reader(table, targets))


def both(alone=BASE, taught=NEAR):
    return {"": BASE, ARMS["alone"]: alone, ARMS["taught"]: taught}


def test_the_measures_by_hand():
    """Two of four shares differ, one of them in the answer; KL of the baseline from the arm, in nats."""
    near = found(both()).near("taught", ARMS["taught"])
    kl = (0.8 * math.log(8 / 7) + 0.2 * math.log(2 / 3) + 0.6 * math.log(1.5) + 0.4 * math.log(2 / 3)) / 4
    assert near.amounts["agreement"].value == 0.75 and near.amounts["kl"].value == pytest.approx(kl)
    assert near.amounts["entropy"].value == pytest.approx(-(NEAR * np.log(NEAR)).sum() / 4)
    middle = (BASE + NEAR) / 2
    js = ((BASE * np.log(BASE / middle)).sum() + (NEAR * np.log(NEAR / middle)).sum()) / 8
    assert near.amounts["js"].value == pytest.approx(js)
    # four images are four bins: |0.7 - 1|, |0.6 - 0|, |0.7 - 0|, |0.9 - 1|
    assert near.amounts["ece"].value == pytest.approx((0.3 + 0.6 + 0.7 + 0.1) / 4)
    assert near.seeds == (0, 1) and near.images == 4


def test_the_baseline_is_as_close_as_can_be():
    alone = found(both()).near("alone", ARMS["alone"])
    assert [alone.amounts[m].value for m in ("agreement", "kl", "js")] == [1, 0, 0]


def test_what_16_bits_lose_near_one_comes_back_from_the_small_shares():
    """0.9997 is stored as 0.9995 or 1, a KL of 2e-4 from nothing; what the others leave is exact to 2**-11 of them."""
    exact = np.array([[0.9997, 0.0002, 0.0001], [1e-9, 0.25, 0.75]])
    p = closeness.whole(exact.astype(np.float16), exact.argmax(1))
    assert abs(float(exact.astype(np.float16)[0, 0]) - 0.9997) > 1e-4
    assert p[0, 0] == pytest.approx(0.9997, abs=3e-7) and p.sum(1) == pytest.approx(1)
    assert p[1, 0] == closeness.FLOOR and abs((exact * np.log(exact / p)).sum()) < 1e-6


def many(n: int, seeds: int, noise: float, seed: int = 0):
    """Shares of two classes by seed: a baseline, and one that is moved by `noise` on every image."""
    random = np.random.default_rng(seed)
    sure = random.uniform(0.6, 0.9, (seeds, n))
    moved = np.clip(sure - noise * random.random((seeds, n)), 0.05, 0.95)
    return [[np.stack([s, 1 - s], 1) for s in rows] for rows in (sure, moved)]


def by_seed(*arms):
    recipes = ("", *ARMS.values())
    targets = np.zeros(len(arms[0][0]), int)
    return lambda t: Shares(arms[recipes.index(t.recipe)][t.seed], targets)


def compared(seeds: int, noise: float, n: int = 400):
    base, far = many(n, seeds, 0.3)
    _, near = many(n, seeds, noise)
    trials = [trial(recipe, s, 0.75, n=n) for recipe in ("", *ARMS.values()) for s in range(seeds)]
    return closeness.find(find(ASKED, trials), trials, by_seed(base, far, near))


def test_a_closer_arm_is_clearly_closer_and_the_tests_are_corrected_together():
    seen = compared(4, 0.1)
    assert [t.measure for t in seen.tests] == list(closeness.TESTED)
    kl = seen.test("taught", ARMS["taught"], "kl")
    assert kl.clear and kl.closer and kl.high < 0 and kl.seeds == 4 and kl.images == 400
    assert all(t.p_holm >= t.p for t in seen.tests)
    agreement = seen.test("taught", ARMS["taught"], "agreement")
    assert agreement.closer is (agreement.value > 0)


def test_one_seed_is_never_clear():
    seen = compared(1, 0.1)
    assert seen.test("taught", ARMS["taught"], "kl").p < 1e-6
    assert not any(t.clear for t in seen.tests) and not seen.between and seen.pairs == 0


def test_what_would_have_been_seen_counts_the_tests():
    seen = compared(4, 0.29)
    kl = seen.test("taught", ARMS["taught"], "kl")
    (base, far), (_, near) = many(400, 4, 0.3), many(400, 4, 0.29)
    moved = [[(b * np.log(b / q)).sum(1) for b, q in zip(base, arm, strict=True)] for arm in (near, far)]
    d = closeness.mean(np.subtract(*moved))
    assert kl.value == pytest.approx(d.value) and kl.smallest == pytest.approx(d.smallest(tests=4))
    assert all(t.smallest is None for t in compared(1, 0.1).tests)


def test_the_same_answer_to_all_images_is_not_the_same_to_every_image():
    seen = found(both(alone=BASE * 0.9 + 0.1 * BASE**2 / (BASE**2).sum(1, keepdims=True)))
    alone = seen.near("alone", ARMS["alone"]).amounts["agreement"]
    assert alone.value == 1 and (alone.low, alone.high) == wilson(4, 4)
    itself = seen.baseline.amounts["agreement"]
    assert (itself.low, itself.high) == (1, 1)


def test_one_image_shows_nothing_clearly():
    rows_ = [trial(recipe, s, 1.0, n=1) for recipe in ("", *ARMS.values()) for s in range(3)]
    p = {"": 0.8, ARMS["alone"]: 0.5, ARMS["taught"]: 0.7}

    def read(t):
        own = p[t.recipe] + t.seed / 1000
        return Shares(np.array([[own, 1 - own]]), TARGETS[:1])

    seen = closeness.find(find(ASKED, rows_), rows_, read)
    assert min(t.p for t in seen.tests) < 0.01 and not any(t.clear or t.smallest for t in seen.tests)


def test_the_same_arm_twice_differs_by_nothing():
    seen = compared(3, 0.3)
    assert [t.value for t in seen.tests] == [0, 0, 0, 0] and [t.p_holm for t in seen.tests] == [1, 1, 1, 1]


def test_seeds_that_differ_widen_the_interval():
    images = np.random.default_rng(0).normal(0.2, 0.1, 500)
    steady, shifted = np.stack([images] * 3), np.stack([images - 0.1, images, images + 0.1])
    a, b = closeness.mean(steady), closeness.mean(shifted)
    assert a.value == pytest.approx(b.value) and b.high - b.low > 5 * (a.high - a.low)
    assert b.freedom == 2 and b.error == pytest.approx(math.hypot(0.1 / math.sqrt(3), a.error), rel=0.01)


def test_baselines_of_other_seeds_are_the_scale():
    trials = rows()
    other = BASE[:, ::-1].copy()
    table = {("", 0): BASE, ("", 1): other}
    read = lambda t: Shares(table.get(t.key, BASE), TARGETS)  # noqa: E731
    seen = closeness.find(find(ASKED, trials), trials, read)
    assert seen.pairs == 2 and seen.between["agreement"] == 0
    kl = (BASE * np.log(BASE / other)).sum() / 4
    assert seen.between["kl"] == pytest.approx((kl + (other * np.log(other / BASE)).sum() / 4) / 2)


def test_asked_for_or_where_an_arm_has_a_student():
    plain = {"a": "Int8()", "b": "Int4()"}
    assert closeness.wanted(ASKED) and not closeness.wanted(Comparison(question="?", arms=plain))
    assert closeness.wanted(Comparison(question="?", arms=plain, close=True))
    assert not closeness.wanted(Comparison(question="?", arms=ARMS, close=False))
    assert not closeness.wanted(Comparison(question="?", arms=ARMS, by="class"))


def test_files_are_read_and_gone_or_broken_ones_are_not(tmp_path):
    row = trial("x", 0, 0.75, n=4)
    read = closeness.stored(tmp_path)
    assert read(row) is None
    file = tmp_path / row.predictions
    np.savez(file, probabilities=BASE.astype(np.float16), classes=BASE.argmax(1), targets=TARGETS)
    assert read(row).p == pytest.approx(BASE, abs=1e-3) and (read(row).targets == TARGETS).all()
    np.savez(file, probabilities=BASE[:3].astype(np.float16), classes=BASE[:3].argmax(1), targets=TARGETS[:3])
    assert read(row) is None  # not the images that were scored
    np.savez(file, probabilities=np.full((4, 2), np.nan, np.float16), classes=BASE.argmax(1), targets=TARGETS)
    assert read(row) is None
    file.write_bytes(b"PK\x03\x04 torn")
    assert read(row) is None


def test_without_the_baselines_predictions_nothing_is_said():
    assert found({ARMS["alone"]: BASE, ARMS["taught"]: NEAR}) is None
    gone = found({"": BASE, ARMS["alone"]: BASE})
    assert gone.near("taught", ARMS["taught"]) is None and not gone.tests
