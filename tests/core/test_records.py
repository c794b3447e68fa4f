"""Records, targets, trials and errors: frozen, JSON both ways, and one line each."""

from __future__ import annotations

import inspect

import pytest
from pydantic import ValidationError

from lessen.core import errors
from lessen.core.errors import LessenError, UnknownName
from lessen.core.record import Bytes, Cost, Epoch, Latency, Machine, Measurement, Record, Score
from lessen.core.target import Target
from lessen.core.task import Split
from lessen.core.trial import Trial

COST = Cost(parameters=10, nonzeros=9, macs=100, weight_bits=320)
RECORD = Record(
    technique="A()", seed=1, seconds=0.5, before=COST, after=COST, score=0.9,
    history=(Epoch(epoch=1, loss=0.3, score=None, lr=0.1, seconds=1.0),), notes=("n",), details={"layers": {"a": 0.5}},
)  # fmt: skip
SCORE = Score(value=0.9, low=0.8, high=0.95, n=100)
MEASUREMENT = Measurement(
    validation=None, test=SCORE, bytes=Bytes(runnable=10, transport=8, folder=30), cost=COST,
    latency=(Latency(batch=1, median_ms=0.5, iqr_ms=0.1, n=30),), peak_memory_mib=50.0,
    machine=Machine(cpu="c", cores=2, threads=1, memory_gib=8.0, system="s", python="3.11", runtime="r"),
)  # fmt: skip
TRIAL = Trial(
    study="s", recipe="A() >> B()", seed=1, status="done", task="t()", task_fingerprint="0", model="m()",
    records=(RECORD,), measurement=MEASUREMENT,
)  # fmt: skip


@pytest.mark.parametrize("row", [COST, RECORD, MEASUREMENT, TRIAL], ids=lambda r: type(r).__name__)
def test_a_row_comes_back_equal_from_json(row) -> None:
    assert type(row).model_validate_json(row.model_dump_json()) == row


def test_rows_are_frozen_and_take_no_unknown_keys() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        COST.macs = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra"):
        Cost(parameters=1, nonzeros=1, macs=1, weight_bits=1, flops=1)  # type: ignore[call-arg]


def test_a_trial_is_known_by_recipe_and_seed() -> None:
    assert TRIAL.key == ("A() >> B()", 1)
    with pytest.raises(ValidationError, match="status"):
        Trial.model_validate({**TRIAL.model_dump(), "status": "half"})


def test_a_target_is_strict() -> None:
    assert Target() == Target.model_validate_json("{}")
    assert Target.model_validate_json('{"batches": [1, 8], "max_drop": 0.01}').batches == (1, 8)
    for wrong in ({"threads": 0}, {"threads": True}, {"runs": "30"}, {"device": "gpu"}, {"max_byte": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            Target(**wrong)


def test_a_split_counts_samples() -> None:
    assert len(Split([1, 2, 3], [0, 1, 0])) == 3


@pytest.mark.parametrize(
    ("name", "known", "says"),
    [
        ("MagnitudPrune", ["MagnitudePrune", "Int8"], "'MagnitudPrune'; did you mean 'MagnitudePrune'?"),
        ("int8", ["MagnitudePrune", "Int8"], "'int8'; did you mean 'Int8'?"),
        ("Zebra", ["MagnitudePrune", "Int8"], "'Zebra'; known: MagnitudePrune, Int8"),
        ("Zebra", [], "'Zebra'; none is known"),
        ("conv1", ["features.conv1", "features.conv2"], "'conv1'; did you mean 'features.conv1'?"),
        ("block1.convv", ["net.block1.conv", "net.block2.conv"], "'block1.convv'; did you mean 'net.block1.conv'?"),
    ],
)
def test_an_unknown_name_gets_the_nearest_or_all(name: str, known: list[str], says: str) -> None:
    assert str(UnknownName("technique", name, known)) == f"unknown technique {says}"


def test_every_error_is_one_family() -> None:
    found = [e for _, e in inspect.getmembers(errors, inspect.isclass) if e.__module__ == errors.__name__]
    assert len(found) > 5 and all(issubclass(e, LessenError) and e.__doc__ for e in found)
