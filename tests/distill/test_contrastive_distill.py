"""A bank needs more samples than negatives, and a run that was killed goes on with the same bank and draws."""

from __future__ import annotations

import pytest
import torch

from lessen import tasks
from lessen.core.errors import BadField, Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.distill.contrastive_distill import ContrastiveDistill
from lessen.ops import checkpoints


@pytest.fixture(scope="module")
def task() -> Task:
    return tasks.task("digits(limit=120, validation=40)")


@pytest.fixture(scope="module")
def pair(task: Task) -> tuple[torch.nn.Module, torch.nn.Module]:
    with task.seeded(0):
        return task.build("cnn(width=0.125)"), task.build("cnn(width=0.25)")


def test_as_many_negatives_as_fit_or_those_asked_for(task, pair) -> None:
    largest = int(task.split("train").y.bincount().max())
    n = len(task.split("train"))
    for asked, got in ((0, n - largest), (5, 5), (n - 1, n - 1)):
        _, record = ContrastiveDistill(epochs=1, batch=60, negatives=asked).apply(
            pair[0], task, run=Run(origin=pair[1])
        )
        told = record.details["contrast"]
        assert (told["negatives"], told["samples"], told["heads"]) == (got, n, ["head", "head"])
        assert told["widths"] == [16, 32] and told["adapter_parameters"] == 128 * (16 + 1 + 32 + 1)
        assert record.after.parameters == record.before.parameters


def test_too_few_samples_for_the_bank_are_told_with_both_numbers(task, pair) -> None:
    n = len(task.split("train"))
    said = rf"ContrastiveDistill\.negatives = 16384 .* bank of {n} training samples; write at most {n - 1}, or 0"
    with pytest.raises(BadField, match=said) as e:
        ContrastiveDistill(negatives=16384).apply(pair[0], task, run=Run(origin=pair[1]))
    assert "\n" not in str(e.value)
    with pytest.raises(BadField):
        ContrastiveDistill(negatives=n).apply(pair[0], task, run=Run(origin=pair[1]))


def test_one_class_has_nothing_to_tell_apart() -> None:
    with pytest.raises(Refused, match="one class alone"):
        ContrastiveDistill()._fitting(10, 10)


class StopError(Exception): ...


@pytest.mark.parametrize("augment", [True, False])
def test_a_killed_run_goes_on_bit_for_bit(task, pair, tmp_path, monkeypatch, augment) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    technique = ContrastiveDistill(epochs=4, batch=40, augment=augment)

    def go(folder, stop: int = 0):
        def tell(share: float, text: str) -> None:
            if stop and text.startswith(f"epoch {stop}/") and list(folder.glob("*.pt")):
                raise StopError

        return technique.apply(pair[0], task, seed=3, run=Run(origin=pair[1], checkpoint=folder, progress=tell))

    whole, record = go(None)
    with pytest.raises(StopError):
        go(tmp_path, stop=2)
    resumed, told = go(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    assert [e.loss for e in told.history] == [e.loss for e in record.history] and len(told.history) == 4
    assert told.details == record.details


def test_several_devices_would_not_share_their_memories(task, pair, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(Refused, match="several devices would not share what they remember; train it on one"):
        ContrastiveDistill().apply(pair[0], task, run=Run(origin=pair[1]))
