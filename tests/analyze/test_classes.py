"""Recall by class by hand; a loss in one class is found, one spread over all is not called uneven."""

from __future__ import annotations

import numpy as np
import pytest
from made_rows import answers, trial
from scipy import stats

from lessen.analyze.classes import _other_seeds, classes, uneven
from lessen.analyze.comparison import Comparison
from lessen.analyze.findings import find

LABELS = np.repeat(np.arange(5), 80)
SEEDS = 5


def right(losses: dict[int, float], seed: int = 0) -> np.ndarray:
    """(seeds, images): right but for that share of a class's images, drawn for each seed."""
    random = np.random.default_rng(seed)
    share = np.array([losses.get(int(k), 0.02) for k in LABELS])
    return random.random((SEEDS, len(LABELS))) >= share


def test_recall_is_of_the_classs_own_images():
    mine = np.ones((1, 4), bool)
    mine[0, 3] = False
    found = classes({"a": np.ones((1, 4), bool), "b": mine}, np.array([0, 0, 1, 1]), ("cat", "dog"))
    assert [(r.arm, r.label, r.recall, r.value) for r in found.recalls] == [
        ("a", 0, 1.0, 0.0), ("a", 1, 1.0, 0.0), ("b", 0, 1.0, 0.0), ("b", 1, 0.5, -0.5)
    ]  # fmt: skip
    assert found.images == {0: 2, 1: 2} and found.name(1) == "dog"
    assert not any(r.clear for r in found.recalls) and not found.uneven[0].clear  # one seed


def test_a_class_that_loses_is_found_and_the_others_are_not():
    found = classes({"dense": right({}), "small": right({3: 0.3}, 1), "same": right({}, 2)}, LABELS)
    assert [(r.arm, r.label) for r in found.recalls if r.clear] == [("small", 3)]
    (lost,) = (r for r in found.of("small") if r.label == 3)
    assert lost.value == pytest.approx(-0.28, abs=0.06) and lost.low < lost.value < lost.high < 0
    assert {u.arm: u.clear for u in found.uneven} == {"small": True, "same": False}


def test_a_loss_of_all_classes_alike_is_clear_but_not_uneven():
    found = classes({"dense": right({}), "small": right(dict.fromkeys(range(5), 0.3), 1)}, LABELS)
    assert all(r.clear for r in found.of("small"))
    assert not found.uneven[0].clear


def test_one_seed_that_fails_in_a_class_does_not_make_the_classes_differ():
    d = right({}, 1).astype(float) - right({})
    d[0, LABELS == 2] -= 1  # the images say so, the seeds do not
    assert not uneven("a", d, LABELS).clear


def test_a_class_of_one_image_is_never_clear():
    labels = np.repeat([0, 1], [100, 1])
    first = np.ones((3, 101), bool)
    arm = first.copy()
    arm[:, -1] = False
    found = classes({"a": first, "b": arm}, labels)
    (lost,) = (r for r in found.of("b") if r.label == 1)
    assert (lost.value, lost.low, lost.high, lost.p_holm, lost.clear) == (-1, -1, 1, 1, False)


def test_of_two_classes_one_may_lose_more():
    random, labels = np.random.default_rng(0), np.repeat([0, 1], 500)
    first = random.random((5, 1000)) < 0.98
    arm = first & ((random.random((5, 1000)) < 0.6) | (labels == 0))
    assert uneven("a", arm.astype(float) - first, labels).clear
    alike = first & (random.random((5, 1000)) < 0.6)
    assert not uneven("a", alike.astype(float) - first, labels).clear
    one_seed = arm.astype(float) - first
    one_seed[1:] = 0
    assert not uneven("a", one_seed, labels).clear
    assert uneven("a", arm[:1].astype(float) - first[:1], labels).p == 1


def test_the_t_test_of_two_classes_is_scipys():
    table = np.random.default_rng(1).normal(size=(5, 2))
    assert _other_seeds(table) == pytest.approx(stats.ttest_rel(*table.T).pvalue)


def test_from_rows_and_predictions():
    table = {("", s): row for s, row in enumerate(right({}))}
    table |= {("Int2()", s): row for s, row in enumerate(right({1: 0.4}, 1))}
    rows = [trial(recipe, s, float(row.mean()), n=400) for (recipe, s), row in table.items()]
    asked = Comparison(question="?", arms={"dense": "", "small": "Int2()"}, by="class")
    whole = find(asked, rows, answers=answers(table), labels=lambda t: LABELS, names=tuple("abcde"))
    assert whole.model_validate_json(whole.model_dump_json()) == whole
    found = whole.classes
    assert found is not None and [(r.label, found.name(r.label)) for r in found.recalls if r.clear] == [(1, "b")]
    assert find(asked, rows, answers=answers(table)).classes is None  # labels are gone
    assert find(asked, rows, labels=lambda t: LABELS).classes is None  # answers are gone
