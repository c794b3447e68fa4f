"""What every technique gets from its base: checks, text, an untouched input, a seed and a record."""

from __future__ import annotations

import random
from typing import Any

import pytest
from toy_task import Scale, Shake, ToyTask

from lessen.core.errors import BadField, UnknownName
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Range, Technique


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"by": 10.5}, "Scale.by = 10.5 is out of its range 0 to 10 (factor)"),
        ({"by": -1}, "Scale.by = -1 is out of its range 0 to 10 (factor)"),
        ({"by": float("nan")}, "Scale.by = nan is out of its range 0 to 10 (factor)"),
        ({"by": float("inf")}, "Scale.by = inf is out of its range 0 to 10 (factor)"),
        ({"by": "2"}, "Scale.by = '2' is wrong: input should be a valid number"),
        ({"by": True}, "Scale.by = True is wrong: input should be a valid number"),
        ({"steps": True}, "Scale.steps = True is wrong: input should be a valid integer"),
        ({"steps": "3"}, "Scale.steps = '3' is wrong: input should be a valid integer"),
        ({"steps": 2.0}, "Scale.steps = 2.0 is wrong: input should be a valid integer"),
        ({"steps": 6}, "Scale.steps = 6 is out of its range 1 to 5 (how often)"),
        ({"shares": (0.5, 1.5)}, "Scale.shares = (0.5, 1.5) is out of its range 0 to 1 (milestones)"),
        ({"shares": [0.5]}, "Scale.shares = [0.5] is wrong: input should be a valid tuple"),
        ({"scope": "last"}, "Scale.scope = 'last' is wrong: input should be 'all' or 'first'"),
        ({"floor": 2.0}, "Scale.floor = 2.0 is out of its range 0 to 1 (smallest result, if any)"),
    ],
)
def test_a_bad_field_is_named_with_its_range(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(BadField) as e:
        Scale(**fields)
    assert str(e.value) == says


def test_the_ends_of_a_range_are_in_it() -> None:
    assert (Scale(by=0.0).by, Scale(by=10.0).by, Scale(steps=1).steps, Scale(steps=5).steps) == (0.0, 10.0, 1, 5)
    assert Range("share", 0.0, 1.0).contains(1.0) and not Range("share", 0.0, 1.0).contains(float("nan"))


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown field of Scale 'step'; did you mean 'steps'"):
        Scale(step=2)  # type: ignore[call-arg]


def test_a_technique_is_a_frozen_value() -> None:
    assert Scale(by=2) == Scale() and Scale(by=3.0) != Scale() and len({Scale(by=2.0), Scale()}) == 1
    with pytest.raises(ValueError, match="frozen"):
        Scale().by = 3.0  # type: ignore[misc]


def test_a_technique_is_final_and_must_have_a_verb() -> None:
    with pytest.raises(TypeError, match="may not extend Scale"):
        type("More", (Scale,), {})
    with pytest.raises(TypeError, match="abstract"):
        type("Idle", (Technique,), {"__annotations__": {}})()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Scale(), "Scale()"),
        (Scale(by=2.0, steps=1), "Scale()"),
        (Scale(by=3), "Scale(by=3.0)"),
        (Scale(scope="first", shares=(0.5,)), "Scale(shares=(0.5,), scope='first')"),
    ],
)
def test_the_text_leaves_defaults_out_and_means_the_same_in_python(value: Scale, text: str) -> None:
    assert str(value) == repr(value) == text
    assert eval(text, {"Scale": Scale}) == value


def test_the_schema_carries_docs_and_ranges() -> None:
    schema = Scale.model_json_schema()
    assert schema["additionalProperties"] is False
    by = schema["properties"]["by"]
    assert (by["minimum"], by["maximum"], by["default"], by["description"]) == (0.0, 10.0, 2.0, "factor")
    assert schema["properties"]["scope"]["enum"] == ["all", "first"]
    assert schema["properties"]["scope"]["description"] == "which numbers"


def test_apply_leaves_the_input_alone_and_records_the_change() -> None:
    model = [1.0, 2.0]
    changed, record = Scale(by=0.0).apply(model, ToyTask(), seed=3)
    assert (model, changed) == ([1.0, 2.0], [0.0, 0.0])
    assert (record.technique, record.seed, record.score) == ("Scale(by=0.0)", 3, 0.0)
    assert (record.before.nonzeros, record.after.nonzeros) == (2, 0)
    assert (record.notes, record.details, record.history) == (("scaled",), {"n": 2}, ())
    assert record.seconds >= 0
    assert type(record).model_validate_json(record.model_dump_json()) == record


class Resumed(Technique):
    """As a training of two parts that were killed and are gone on with."""

    paper = "nobody 2002"

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        run.part("first", 0, 2).earlier.append(60.0)
        run.part("second", 1, 2).earlier.append(40.0)
        return model


def test_a_step_that_was_killed_took_its_earlier_seconds_too() -> None:
    run = Run(earlier=[1000.0])  # of another step
    assert 100 <= Resumed().apply([1.0], ToyTask(), run=run)[1].seconds < 1000
    assert run.earlier == [1000.0]


def test_a_neutral_setting_changes_nothing() -> None:
    assert Scale(**Scale.neutral).apply([1.0, 2.0], ToyTask())[0] == [1.0, 2.0]  # type: ignore[arg-type]


def test_randomness_follows_from_the_seed_alone() -> None:
    random.seed(1)
    first = Shake().apply([1.0], ToyTask(), seed=5)[0]
    random.seed(2)
    state = random.getstate()
    second = Shake().apply([1.0], ToyTask(), seed=5)[0]
    assert random.getstate() == state
    assert first == second != Shake().apply([1.0], ToyTask(), seed=6)[0]


def test_a_run_given_is_read_and_never_written() -> None:
    heard: list[tuple[float, str]] = []
    run = Run(origin=[9.0], done=("Scale()",), progress=lambda share, text: heard.append((share, text)))
    _, record = Shake().apply([1.0], ToyTask(), run=run)
    assert record.details == {"done": ["Scale()"], "origin": [9.0]} and len(record.history) == 1
    assert heard == [(1.0, "shaken")]
    assert (run.history, run.notes, run.details, run.done) == ([], [], {}, ("Scale()",))


def test_a_run_knows_the_step_with_all_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(Scale, "_apply", lambda self, model, task, run: seen.append(run.step) or model)
    run = Run()
    Scale(by=3.0).apply([1.0], ToyTask(), run=run)
    assert seen == ["Scale(by=3.0, steps=1, shares=(), scope='all', floor=None)"] and run.step == ""


def test_without_a_run_the_origin_is_the_model_itself() -> None:
    assert Shake().apply([7.0], ToyTask())[1].details == {"done": [], "origin": [7.0]}
