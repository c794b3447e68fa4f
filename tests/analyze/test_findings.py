"""Comparisons worked by hand: pairs, curves, corrections, and what is said when the predictions are gone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_rows import answers, cost, record, trial

from lessen.analyze.comparison import Comparison
from lessen.analyze.findings import NEAR, find
from lessen.analyze.power import smallest_effect
from lessen.analyze.predictions import class_names, right_answers, true_labels
from lessen.analyze.statistics import holm, mean_interval, seed_difference, wilson

SEEDS = (0, 1, 2)
PRUNE = "MagnitudePrune(sparsity={}, epochs=5)"


def arms(**recipes) -> Comparison:
    return Comparison(question="Which?", arms=recipes)


def images(right: int, n: int = 100) -> np.ndarray:
    return np.arange(n) < right


def test_arms_are_compared_with_the_first_on_the_same_seeds_and_images():
    scores = {"Int8()": (90, 92, 91), "LowRank()": (80, 82, 81)}
    rows = [trial("", s, 0.9) for s in SEEDS]
    rows += [
        trial(r, s, right / 100, record(r, score=0.9)) for r, rights in scores.items() for s, right in enumerate(rights)
    ]
    table = {(r, s): images(right) for r, rights in scores.items() for s, right in enumerate(rights)}
    found = find(arms(a="Int8()", b="LowRank()"), rows, answers=answers(table))
    (only,) = found.contrasts
    assert (only.arm, only.against, only.seeds, only.images) == ("b", "Int8()", 3, 100)
    assert only.value == pytest.approx(-0.1) and only.low < -0.1 < only.high < 0
    assert only.clear and only.p_holm == only.p < 0.05  # one test needs no correction
    a, _ = found.points
    assert a.test and a.test.mean == pytest.approx(0.91) and a.test.sd == pytest.approx(0.01) and a.test.n == 3
    loss = found.loss("Int8()")
    assert loss and loss.value == pytest.approx(0.01) and loss.p_holm is None
    assert found.model_validate_json(found.model_dump_json()) == found


def test_without_predictions_the_seeds_scores_speak_and_say_so():
    rows = [
        trial(r, s, v) for r, vs in {"": (0.8, 0.6, 0.4), "Int8()": (0.9, 0.8, 0.7)}.items() for s, v in enumerate(vs)
    ]
    (only,) = find(arms(dense="", small="Int8()"), rows).contrasts
    # differences 0.1, 0.2, 0.3: mean 0.2, sd 0.1, error 0.1 / sqrt 3, t = 3.4641 with 2 degrees of freedom
    assert only.images == 0 and only.value == pytest.approx(0.2)
    assert only.p == pytest.approx(0.0742, abs=1e-4)
    assert (only.low, only.high) == pytest.approx(
        (0.2 - 4.3026527 * 0.1 / math.sqrt(3), 0.2 + 4.3026527 * 0.1 / math.sqrt(3))
    )
    assert not only.clear


def test_right_answers_do_not_speak_for_a_tasks_own_score():
    scores = {"": (0.8, 0.6, 0.4), "Int8()": (0.9, 0.8, 0.7)}
    rows = [trial(r, s, v, by="F1.score") for r, vs in scores.items() for s, v in enumerate(vs)]
    table = {(r, s): images(50) for r in scores for s in SEEDS}
    found = find(arms(dense="", small="Int8()"), rows, answers=answers(table))
    alone = find(arms(dense="", small="Int8()"), rows)
    assert found == alone and found.score == "F1.score" and found.contrasts[0].images == 0
    assert found.contrasts[0].value == pytest.approx(0.2)
    one = find(arms(dense="", small="Int8()"), rows[::3], answers=answers(table)).points[0]
    assert one.seeds == (0,) and one.interval == (0.0, 1.0)  # of one seed, the measured one


def test_a_law_and_classes_of_a_task_with_its_own_score():
    recipes = [PRUNE.format(s) for s in (0.2, 0.4, 0.6)]
    rows = [trial(r, s, 0.9, by="F1.score") for r in ("", *recipes) for s in SEEDS]
    table = {t.key: images(50) for t in rows}
    law = Comparison(question="?", arms={"a": recipes, "b": recipes[:1]}, x="bits", by="law")
    found = find(law, rows, answers=answers(table)).law
    assert found is not None and found.images == 0
    classes = Comparison(question="?", arms={"a": recipes[0], "b": recipes[1]}, by="class")
    known = find(classes, rows, answers=answers(table), labels=lambda t: np.arange(100) % 2).classes
    assert known is not None  # recall is of right answers, whatever the score is


def test_one_seed_is_never_clear():
    rows = [trial("", 0, 0.9), trial("Int8()", 0, 0.1)]
    table = {("", 0): images(90), ("Int8()", 0): images(10)}
    for known in (answers(table), answers({})):
        (only,) = find(arms(dense="", small="Int8()"), rows, answers=known).contrasts
        assert only.value == pytest.approx(-0.8) and not only.clear


def test_equal_gaps_without_predictions_are_not_clear():
    scores = {"": (0.93, 0.92), "Int8()": (0.93, 0.91), "Float16()": (0.92, 0.90)}
    rows = [trial(r, s, v) for r, vs in scores.items() for s, v in enumerate(vs)]
    found = find(arms(int8="Int8()", half="Float16()"), rows)
    (only,) = found.contrasts
    assert (only.p, only.p_holm, only.clear, only.smallest) == (1.0, 1.0, False, None)
    assert (only.low, only.high) == (-1, 1) and only.value == pytest.approx(-0.01)


def test_scores_that_are_all_alike_have_an_interval():
    rows = [trial(r, s, 1.0, n=50) for r in ("", "Int8()") for s in SEEDS]
    table = {(r, s): images(50, 50) for r in ("", "Int8()") for s in SEEDS}
    for known in (answers(table), answers({})):
        for point in find(arms(dense="", small="Int8()"), rows, answers=known).points:
            assert point.interval == wilson(50, 50)


def test_what_would_have_been_seen_counts_the_tests():
    random = np.random.default_rng(0)
    recipes = {f"arm{i}": f"MagnitudePrune(sparsity=0.{i})" for i in range(1, 6)}
    rows = [trial(r, s, 0.9 + float(random.normal(0, 0.01))) for r in recipes.values() for s in SEEDS]
    for count in (2, 5):
        asked = dict(list(recipes.items())[:count])
        for c in find(arms(**asked), rows).contrasts:
            ours, theirs = ([t.measurement.test.value for t in rows if t.recipe == r] for r in (c.recipe, c.against))
            error = seed_difference(ours, theirs).error
            assert c.smallest == pytest.approx(smallest_effect(error, 1, 2, alpha=0.05 / (count - 1)))
    table = {(r, 0): images(90 - i) for i, r in enumerate(recipes.values())}
    for c in find(arms(**recipes), [t for t in rows if not t.seed], answers=answers(table)).contrasts:
        assert c.images and c.smallest is None  # nothing that one seed shows is called clear


def test_only_seeds_that_both_have_are_paired():
    rows = [trial("", s, 0.5) for s in SEEDS] + [trial("Int8()", s, 0.7) for s in (1, 2)]
    (only,) = find(arms(dense="", small="Int8()"), rows).contrasts
    assert only.seeds == 2
    assert find(arms(dense="", small="Int8()"), rows[:3]).contrasts == ()


def curve(kind: str, places: dict[float, float], scores: dict[float, float]) -> list:
    """Recipes of one arm: at sparsity s, share of weights left and score."""
    text = {s: f"MagnitudePrune(sparsity={s}, criterion='{kind}')" for s in places}
    return [
        trial(
            text[s], seed, scores[s] + seed / 1000, record(text[s], score=0.5), of=cost(left), size=round(4000 * left)
        )
        for s, left in places.items()
        for seed in SEEDS
    ]


def recipes(rows) -> tuple[str, ...]:
    return tuple(dict.fromkeys(t.recipe for t in rows))


def test_curves_are_ordered_and_paired_where_they_meet():
    ours = curve("magnitude", {0.9: 0.1, 0.5: 0.5, 0.8: 0.2}, {0.9: 0.8, 0.5: 0.9, 0.8: 0.85})
    theirs = curve("random", {0.5: 0.505, 0.8: 0.25, 0.9: 0.1}, {0.5: 0.9, 0.8: 0.6, 0.9: 0.3})
    asked = Comparison(question="?", x="sparsity", arms={"magnitude": recipes(ours), "random": recipes(theirs)})
    rows = [trial("", s, 0.9) for s in SEEDS] + ours + theirs
    found = find(asked, rows)
    assert [round(p.x or 0, 3) for p in found.of("magnitude")] == [0.5, 0.8, 0.9]
    met = {c.recipe: c for c in found.contrasts}
    assert [c.value for c in found.contrasts] == pytest.approx([0.0, -0.5])  # 0.2 and 0.25 left are too far apart
    first = met["MagnitudePrune(sparsity=0.5, criterion='random')"]
    assert first.apart == pytest.approx(0.505 / 0.5 - 1) and abs(first.apart or 1) <= NEAR
    assert found.alone == ("MagnitudePrune(sparsity=0.8, criterion='random')",)
    by_bytes = find(asked.model_copy(update={"x": "bytes"}), rows)
    assert [p.x for p in by_bytes.of("magnitude")] == [2000, 800, 400]  # from the baseline's side on


def test_a_point_meets_one_other_only_and_the_closest():
    ours = curve("magnitude", {0.5: 0.500}, {0.5: 0.9})
    theirs = curve("random", {0.5: 0.510, 0.501: 0.505}, {0.5: 0.9, 0.501: 0.8})
    asked = Comparison(question="?", x="sparsity", arms={"a": recipes(ours), "b": recipes(theirs)})
    (only,) = find(asked, [trial("", s, 0.9) for s in SEEDS] + ours + theirs).contrasts
    assert only.recipe == "MagnitudePrune(sparsity=0.501, criterion='random')"


def test_fields_meet_only_where_they_are_equal():
    ours = curve("magnitude", {0.98: 0.02, 0.97: 0.03}, {0.98: 0.9, 0.97: 0.9})
    theirs = curve("random", {0.99: 0.01, 0.97: 0.03}, {0.99: 0.9, 0.97: 0.9})
    asked = Comparison(question="?", x="MagnitudePrune.sparsity", arms={"a": recipes(ours), "b": recipes(theirs)})
    found = find(asked, ours + theirs, field=lambda recipe, _: float(recipe.split("=")[1].split(",")[0]))
    assert [c.recipe for c in found.contrasts] == ["MagnitudePrune(sparsity=0.97, criterion='random')"]
    assert find(asked, ours + theirs).contrasts == ()  # nobody reads fields: no x, nothing to pair


def test_recovery_is_against_the_same_seeds_baseline():
    recipe = PRUNE.format(0.9)
    rows = [trial("", 0, 0.9), trial("", 1, 0.9).model_copy(update={"records": (record("t", (0.5,)),)})]
    rows += [trial(recipe, s, 0.9, record(recipe, (0.2, 0.4, 0.6, 0.88, 0.87))) for s in (0, 1)]
    (point,) = find(arms(dense="", a=recipe), rows).of("a")
    # of 0.9: 95 % is 0.855, from epoch 4 on; 99 % is 0.891, never. Of 0.5: 0.475 and 0.495, from epoch 3 on
    assert [(r.share, r.epochs, r.seeds) for r in point.recovery] == [(0.95, (4, 3), 2), (0.99, (None, 3), 1)]
    assert [r.median for r in point.recovery] == [3.5, None]
    assert point.effort and point.effort.epochs == 5


def test_sizes_are_means_over_seeds():
    rows = [trial("", 0, 0.9), *curve("magnitude", {0.8: 0.2}, {0.8: 0.9})]
    (point,) = find(arms(dense="", a=rows[1].recipe), rows).of("a")
    assert point.size is not None
    assert (point.size.runnable, point.size.transport, point.size.nonzero_macs) == (800, 400, 100)
    assert point.size.zeros == pytest.approx(0.8) and point.size.times[0].ratio == pytest.approx(0.2)


def test_rows_that_never_counted_nonzero_macs_have_none():
    old = cost(0.5).model_copy(update={"nonzero_macs": None})
    rows = [trial("", 0, 0.9), trial("Int8()", 0, 0.9, record("Int8()", score=0.9), of=old)]
    asked = Comparison(question="?", x="nonzero macs", arms={"dense": "", "a": "Int8()"})
    (point,) = find(asked, rows).of("a")
    assert point.x is None and point.size and point.size.nonzero_macs is None


def test_holms_correction_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_between_the_p_value_and_bonferronis(seed):
    ps = np.random.default_rng(seed).uniform(0, 0.2, 7).tolist()
    found = holm(ps)
    assert all(p <= q <= min(1, 7 * p) + 1e-12 for p, q in zip(ps, found, strict=True))
    assert sorted(range(7), key=lambda i: ps[i]) == sorted(range(7), key=lambda i: (found[i], ps[i]))


def test_two_arms_that_answer_alike_differ_by_nothing():
    same = seed_difference([0.5, 0.7], [0.5, 0.7])
    assert (same.value, same.p, same.clear) == (0.0, 1.0, False)
    assert "their scores alone" in str(same)


def test_the_interval_of_a_mean_widens_with_what_varies():
    steady = np.tile(images(90), (3, 1))
    moving = np.stack([images(80), images(90), images(100)])
    (a, b), (c, d) = mean_interval(steady), mean_interval(moving)
    assert a < 0.9 < b and c < a and d > b and c >= 0 and d <= 1


def test_predictions_are_read_only_where_they_are_those_that_were_scored(tmp_path):
    row, read = trial("Int8()", 0, 0.75, n=4), right_answers(tmp_path)
    assert read(row) is None
    whole = {"classes": np.array([0, 1, 2, 3]), "targets": np.array([0, 1, 2, 0]), "probabilities": np.ones((4, 2))}
    np.savez(tmp_path / row.predictions, **whole)
    found = read(row)
    assert found is not None and found.tolist() == [True, True, True, False]
    np.savez(tmp_path / row.predictions, **{**whole, "targets": np.array([0, 1, 0, 0])})
    assert read(row) is None  # other answers than the row's score tells
    assert (read(trial("Int8()", 0, 0.1, n=4, by="F1.score")) == [True, True, False, False]).all()
    infinite = np.ones((4, 2))
    infinite[0] = np.nan
    np.savez(tmp_path / row.predictions, **{**whole, "targets": np.arange(4), "probabilities": infinite})
    assert (read(row) == [False, True, True, True]).all()  # what is not finite is wrong
    (tmp_path / row.predictions).write_bytes(b"PK no zip")
    assert read(row) is None


def test_labels_and_names_of_classes_are_read_from_the_run(tmp_path):
    row = trial("Int8()", 0, 0.5, n=2).model_copy(update={"artifact": "artifacts/a"})
    assert true_labels(tmp_path)(row) is None and class_names(tmp_path, [row]) == ()
    np.savez(
        tmp_path / row.predictions, classes=np.array([0, 1]), targets=np.array([0, 0]), probabilities=np.ones((2, 2))
    )
    (tmp_path / "artifacts" / "a").mkdir(parents=True)
    (tmp_path / "artifacts" / "a" / "manifest.json").write_text('{"classes": ["cat", "dog"]}')
    assert true_labels(tmp_path)(row).tolist() == [0, 0]
    assert class_names(tmp_path, [trial("", 0, 0.5), row]) == ("cat", "dog")
