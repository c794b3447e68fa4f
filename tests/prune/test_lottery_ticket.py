"""LotteryTicket: the weights it rewinds to, the arms it compares, and a verdict that says what it does not know."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
import torch
from torch import nn

from lessen.analyze.statistics import Difference
from lessen.catalog import recipe
from lessen.core.errors import BadField, Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.ops import checkpoints, layers, train
from lessen.prune.lottery_ticket import LotteryTicket, verdict
from lessen.tasks import task

QUICK = {"epochs": 2, "batch": 64, "rounds": 2}


@pytest.fixture(scope="module")
def small() -> Task:
    return task("digits(limit=200, validation=200)")


@pytest.fixture(scope="module")
def model(small: Task) -> Any:
    with small.seeded(5):
        return small.build("cnn(width=0.5)")


@pytest.fixture
def starts(monkeypatch: Any) -> list[tuple[dict[str, torch.Tensor], Any, int]]:
    """What each training begins with: tensors, plan, seed."""
    seen: list[Any] = []
    fit = train.fit

    def spy(model: Any, task: Any, plan: Any, run: Any, **more: Any) -> Any:
        state = {k: v.clone() for k, v in model.state_dict().items()}
        seen.append((state, plan, torch.initial_seed()))
        return fit(model, task, plan, run, **more)

    monkeypatch.setattr(train, "fit", spy)
    return seen


def masks(model: Any) -> list[torch.Tensor]:
    return [w.mask for w in layers.weighted(model).values() if w.mask is not None]


def living(state: dict[str, torch.Tensor], like: dict[str, torch.Tensor]) -> bool:
    """Whether `state` is `like` but for zeros."""
    return all(torch.equal(v, torch.where(v == 0, v, like[k])) for k, v in state.items())


def test_it_rewinds_to_the_first_weights_of_the_runs_seed(small: Task, model: Any, starts: Any) -> None:
    ticket, record = LotteryTicket(sparsity=0.75, **QUICK).apply(model, small, seed=5)
    none, dense, first, second, control = (state for state, *_ in starts)
    first_weights = model.state_dict()  # `model` was built under the same seed
    assert all(torch.equal(v, first_weights[k]) for k, v in dense.items())
    assert all(torch.equal(v, first_weights[k]) for k, v in none.items())  # rewinding to epoch 0 trains none before
    assert living(first, first_weights) and living(second, first_weights) and not living(control, first_weights)
    zeros = [
        {k: v == 0 for k, v in s.items() if k.endswith("weight") and v.dim() > 1} for s in (first, second, control)
    ]
    n = record.details["weights"]
    assert [sum(int(z.sum()) for z in zero.values()) for zero in zeros[:2]] == [round(n * 0.5), round(n * 0.75)]
    assert all(torch.equal(zeros[1][k], zeros[2][k]) for k in zeros[1])  # the control has the ticket's masks
    assert not any((zeros[0][k] & ~zeros[1][k]).any() for k in zeros[0])
    assert len({seed for *_, seed in starts}) == 1  # all arms see the same batches
    assert record.details["zeros"] == round(n * 0.75) == sum(int((~m).sum()) for m in masks(ticket))


def test_an_early_epoch_to_rewind_to_has_its_weights_and_schedule(small: Task, model: Any, starts: Any) -> None:
    step = LotteryTicket(sparsity=0.5, rounds=1, epochs=3, batch=64, rewind_epoch=1)
    _, record = step.apply(model, small, seed=5)
    early, dense, ticket, _ = starts
    assert [plan.span for _, plan, _ in starts] == [(0, 1), (1, 3), (1, 3), (0, 3)]
    assert living(ticket[0], dense[0]) and not living(ticket[0], early[0])
    assert [e.epoch for e in record.history] == [2, 3]
    assert [len(c["scores"]) for c in record.details["curves"]] == [1, 2, 2, 3]
    assert record.details["epochs_trained"] == 8
    assert "8 epochs were trained, 2.66667 times those of the dense net" in record.notes


def test_repeats_start_from_other_weights_and_all_count(small: Task, model: Any, starts: Any) -> None:
    _, record = LotteryTicket(sparsity=0.5, rounds=1, epochs=1, batch=64, repeats=2).apply(model, small, seed=5)
    dense = [starts[1][0], starts[5][0]]
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in dense[0].items())
    assert not living(dense[1], dense[0])
    assert [len(row["scores"]) for row in record.details["scores"]] == [2, 2, 2]
    assert any("2 seeds" in note for note in record.notes)
    scores = {row["arm"]: row["scores"] for row in record.details["scores"]}
    difference = sum(scores["ticket"]) / 2 - sum(scores["dense"]) / 2
    assert record.details["ticket_minus_dense"][0] == pytest.approx(difference)
    assert len(record.history) == 1


def test_it_tells_its_progress_over_all_arms(small: Task, model: Any) -> None:
    told: list[tuple[float, str]] = []
    run = Run(progress=lambda share, text: told.append((share, text)))
    LotteryTicket(sparsity=0.5, rounds=1, epochs=1, batch=64, repeats=2).apply(model, small, run=run)
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[-1] == 1.0 and shares[0] <= 1 / 6
    arms = [arm for arm, _ in groupby(text.split(",")[0] for _, text in told)]
    assert arms == ["dense", "round 1", "re-initialized"] * 2


class StopError(Exception): ...


def test_a_killed_experiment_goes_on_as_if_it_had_not_been(
    small: Task, model: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    step = LotteryTicket(sparsity=0.75, rounds=2, epochs=3, batch=64, rewind_epoch=1)

    def stop(share: float, text: str) -> None:
        if text.startswith("round 2, epoch 2/"):
            raise StopError

    with pytest.raises(StopError):
        step.apply(model, small, run=Run(checkpoint=tmp_path, progress=stop))
    told: list[str] = []
    again = Run(checkpoint=tmp_path, progress=lambda share, text: told.append(text))
    resumed, record = step.apply(model, small, run=again)
    whole, expected = step.apply(model, small)
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in resumed.state_dict().items())
    assert record.details == expected.details and record.notes == expected.notes
    assert not any(text.startswith(("dense", "round 1")) for text in told)  # they were done


def test_the_verdict_says_where_it_does_not_go_by_the_tasks_score(small: Task, model: Any, monkeypatch: Any) -> None:
    step = LotteryTicket(sparsity=0.5, rounds=1, epochs=1, batch=64)
    told = "the verdict goes by shares of right answers, not by the task's half"

    def half(outputs: Any, y: Any) -> float:
        return Task.score(small, outputs, y) / 2

    assert told not in step.apply(model, small)[1].notes
    monkeypatch.setattr(small, "score", half)
    assert any(note.startswith(told) for note in step.apply(model, small)[1].notes)


def test_one_seed_is_called_one_seed(small: Task, model: Any) -> None:
    _, record = LotteryTicket(sparsity=0.5, **QUICK).apply(model, small)
    assert sum("1 seed, so other seeds may differ" in note for note in record.notes) == 2


def difference(value: float, half: float, *, error: float = 0.001) -> Difference:
    return Difference(value, value - half, value + half, error, 99, 3, 100)


@pytest.mark.parametrize(
    ("to_dense", "to_control", "won"),
    [
        (difference(0.0, 0.005), difference(0.05, 0.01), True),
        (difference(0.02, 0.01), difference(0.05, 0.01), True),
        (difference(-0.05, 0.01), difference(0.05, 0.01), False),  # clearly below dense
        (difference(0.0, 0.02), difference(0.05, 0.01), None),  # could be either
        (difference(0.0, 0.005), difference(0.0, 0.01), False),  # any first weights do
        (difference(0.0, 0.005), difference(0.05, 0.01, error=0.05), False),  # few seeds: the t-test does not agree
    ],
)
def test_the_verdict(to_dense: Difference, to_control: Difference, won: bool | None) -> None:
    found, words = verdict(to_dense, to_control, 0.01)
    assert found is won and "1 points" in words


def test_without_validation_images_there_is_no_verdict(model: Any) -> None:
    final = task("digits(limit=200, final=True)")
    _, record = LotteryTicket(sparsity=0.5, rounds=1, epochs=1, batch=64).apply(model, final)
    assert record.details["winning_ticket"] is None
    assert "no verdict on the ticket: the validation split is empty" in record.notes


def test_it_comes_first(small: Task, model: Any) -> None:
    for earlier in ("MagnitudePrune()", "Finetune(epochs=0)"):
        with pytest.raises(Refused, match=r"LotteryTicket cannot follow .* because .*; put LotteryTicket first"):
            (recipe(earlier) >> LotteryTicket()).apply(model, small)
    pruned, _ = recipe("MagnitudePrune()").apply(model, small)
    with pytest.raises(Refused, match="cannot follow a compression"):
        LotteryTicket().apply(pruned, small)
    with pytest.raises(Refused, match="does not know its builder"):
        LotteryTicket().apply(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), small)


def test_fields_that_contradict_each_other(small: Task, model: Any) -> None:
    with pytest.raises(BadField, match=r"rewind_epoch = 10 leaves nothing .*; at most 9"):
        LotteryTicket(rewind_epoch=10).apply(model, small)
    with pytest.raises(BadField, match=r"floor = 0.5 keeps more than sparsity = 0.8"):
        LotteryTicket(floor=0.5).apply(model, small)
