"""A task's own score is measured by itself, with an interval from resamples; plain tasks go on as they did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lessen.core.errors import LessenError
from lessen.core.record import TOP1, Measurement, Score
from lessen.core.task import Split, Task
from lessen.measure import measure, scoring
from lessen.ops.unanswered import settled
from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask

RNG = np.random.default_rng(0)


def balanced(outputs: Any, y: Any) -> float:
    """Mean over the classes of the share that is answered rightly."""
    right = outputs.argmax(1) == y
    return float(sum(float(right[y == k].sum()) / int((y == k).sum()) for k in set(y.tolist())) / len(set(y.tolist())))


class Balanced(ImageTask):
    """Scored by balanced accuracy."""

    def score(self, outputs: torch.Tensor, y: torch.Tensor) -> float:
        return balanced(outputs, y)


def images() -> Images:
    x, y = RNG.integers(0, 255, (120, 1, 3, 3), dtype=np.uint8), np.repeat([0, 0, 0, 1, 2, 3], 20)
    return Images(x, y, x[:60], y[:60], classes=tuple("abcd"))


def logits(task: Task, name: Any, weight: np.ndarray) -> torch.Tensor:
    return task.inputs(task.split(name).x).flatten(1) @ torch.from_numpy(weight)


WEIGHT = RNG.normal(size=(9, 4)).astype("f4")


def test_the_score_of_a_file_is_the_tasks_own(make_artifact) -> None:
    task = Balanced(images(), Settings())
    found = measure(make_artifact(weight=WEIGHT), task, latency=False)
    for name, score in (("validation", found.validation), ("test", found.test)):
        y = task.split(name).y
        assert score is not None and (score.by, score.n) == ("Balanced.score", len(y))
        assert score.value == pytest.approx(balanced(logits(task, name, WEIGHT), y))
        assert 0 <= score.low < score.value < score.high <= 1
    assert Measurement.model_validate_json(found.model_dump_json()) == found
    assert measure(make_artifact("again", weight=WEIGHT), task, latency=False).test == found.test  # seeded


def test_a_plain_task_has_wilsons_interval(make_artifact) -> None:
    task = ImageTask(images(), Settings())
    found = measure(make_artifact(weight=WEIGHT), task, latency=False).test
    right = int((logits(task, "test", WEIGHT).argmax(1) == task.split("test").y).sum())
    assert found == scoring.top1(right, 60) and found.by == TOP1


def test_which_score_a_task_has() -> None:
    plain, own = ImageTask(images(), Settings()), Balanced(images(), Settings())
    assert (plain.scored_by, own.scored_by) == (TOP1, "Balanced.score")
    plain.score = balanced  # type: ignore[method-assign]
    assert plain.scored_by == "balanced"


def test_rows_from_before_are_top_1() -> None:
    assert Score.model_validate_json('{"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}').by == TOP1


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_the_interval_of_a_mean_is_the_normal_one(other_task, kind: Any) -> None:
    """Brier's score, less one: a mean over samples, whose standard error is known."""
    y = RNG.integers(0, 4, 400)
    x = RNG.normal(size=(400, 4)).astype("f4")

    def brier(outputs: Any, y: Any) -> float:
        assert isinstance(outputs, torch.Tensor) == isinstance(y, torch.Tensor) == (kind is torch.as_tensor)
        return float(each(np.asarray(outputs), np.asarray(y)).mean())

    def each(outputs: np.ndarray, y: np.ndarray) -> np.ndarray:
        p = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
        return 1 - np.square(p - np.eye(4)[y]).sum(1) / 2

    task = other_task(score=brier, scored_by="brier", split=lambda name: Split(x, kind(y)))
    found = scoring.own(task, "test", x)
    error = 1.96 * each(x, y).std() / 20
    assert found.value == pytest.approx(each(x, y).mean(), abs=1e-6)
    assert (found.low, found.high) == pytest.approx((found.value - error, found.value + error), abs=0.15 * error)


def test_outputs_that_are_no_numbers_are_never_right(other_task) -> None:
    y = np.array([0, 0, 1, 1])
    x = np.array([[np.nan, 0], [np.inf, 0], [0, -np.inf], [0, 1]], "f4")
    task = other_task(score=balanced, scored_by="balanced", split=lambda name: Split(x, y))
    assert scoring.own(task, "test", x).value == 0.25
    assert settled(torch.from_numpy(x), torch.from_numpy(y)).argmax(1).tolist() == [1, 1, 0, 1]
    assert Task.score(task, settled(torch.from_numpy(x), torch.from_numpy(y)), torch.from_numpy(y)) == 0.25


def test_outputs_that_are_no_numbers_count_as_wrong_in_training_too() -> None:
    task = Balanced(images(), Settings())

    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 4), torch.nan)

    assert task.evaluate(Broken(), "validation") == 0.0


def test_resamples_without_a_score_are_left_out(other_task) -> None:
    y = np.array([0] * 9 + [1])
    x = np.eye(4, dtype="f4")[y]

    def strict(outputs: Any, y: Any) -> float:
        if len(set(y.tolist())) < 2:
            raise ValueError("one class only")
        return balanced(outputs, y)

    task = other_task(score=strict, scored_by="strict", split=lambda name: Split(x, y))
    assert scoring.own(task, "test", x) == Score(value=1.0, low=1.0, high=1.0, n=10, by="strict")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1.5, "the task's mine gives 1.5 for the test split; a score is a number from 0 to 1"),
        (float("nan"), "the task's mine gives nan for the test split; a score is a number from 0 to 1"),
        (None, "the task's mine fails on the test split: TypeError: "),
    ],
)
def test_a_score_that_is_none_is_refused_in_one_line(other_task, value: Any, told: str) -> None:
    x = np.zeros((3, 4), "f4")
    split = Split(x, np.zeros(3, "i8"))
    with pytest.raises(LessenError) as caught:
        scoring.own(other_task(score=lambda *_: value, scored_by="mine", split=lambda name: split), "test", x)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)
