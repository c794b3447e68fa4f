"""MagnitudePrune on a real task: exact counts, what it records, and what it does after other techniques."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lessen.catalog import recipe
from lessen.core.errors import BadField, Refused
from lessen.core.task import Task
from lessen.ops import layers
from lessen.prune.magnitude_prune import MagnitudePrune
from lessen.tasks import task


@pytest.fixture(scope="module")
def digits() -> Task:
    return task("digits")


@pytest.fixture(scope="module")
def model(digits: Task) -> Any:
    with digits.seeded(0):
        return digits.build("resnet8(width=0.5)")


def masks(model: Any) -> dict[str, torch.Tensor]:
    return {k: m.mask for k, m in layers.weighted(model).items() if m.mask is not None}


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_counts_are_exact_and_recorded(scope: Any, digits: Task, model: Any) -> None:
    pruned, record = MagnitudePrune(sparsity=0.83, scope=scope).apply(model, digits)
    weights = layers.weighted(pruned)
    zeros = {k: int((m.weight == 0).sum()) for k, m in weights.items()}
    sizes = {k: m.weight.numel() for k, m in weights.items()}
    if scope == "layer":
        assert zeros == {k: round(n * 0.83) for k, n in sizes.items()}
    assert record.details["zeros"] == sum(zeros.values())
    assert abs(sum(zeros.values()) - 0.83 * sum(sizes.values())) <= (0.5 if scope == "global" else 0.5 * len(sizes))
    assert record.details["sparsity"] == {k: zeros[k] / sizes[k] for k in sizes}
    assert record.before.nonzeros - record.after.nonzeros == sum(zeros.values())
    assert masks(pruned).keys() == sizes.keys()  # the layer that gives the logits too


def test_more_pruning_only_adds_zeros_and_less_changes_nothing(digits: Task, model: Any) -> None:
    first, _ = MagnitudePrune(sparsity=0.6).apply(model, digits)
    more, record = MagnitudePrune(sparsity=0.9, scope="layer").apply(first, digits)
    less, _ = MagnitudePrune(sparsity=0.3).apply(first, digits)
    for path, mask in masks(first).items():
        assert not (masks(more)[path] & ~mask).any()
        assert torch.equal(masks(less)[path], mask)
    assert record.details["zeros"] >= 0.9 * record.details["weights"] - len(masks(more))


def test_no_mask_is_set_where_nothing_goes(digits: Task, model: Any) -> None:
    assert not masks(MagnitudePrune(sparsity=0.0).apply(model, digits)[0])


def test_a_layer_is_never_emptied_by_global_ranking(digits: Task, model: Any) -> None:
    small = digits.copy(model)
    small.features.stem.conv.weight.data *= 1e-6
    path = "features.stem.conv"
    emptied, _ = MagnitudePrune(sparsity=0.5, floor=0.0).apply(small, digits)
    kept, _ = MagnitudePrune(sparsity=0.5, floor=0.25).apply(small, digits)
    n = small.features.stem.conv.weight.numel()
    assert (int(masks(emptied)[path].sum()), int(masks(kept)[path].sum())) == (0, n // 4)


def test_a_floor_that_contradicts_the_sparsity_is_named(digits: Task, model: Any) -> None:
    with pytest.raises(BadField, match=r"MagnitudePrune.floor = 0.3 .*at most 0.2"):
        MagnitudePrune(sparsity=0.8, floor=0.3).apply(model, digits)
    MagnitudePrune(sparsity=0.8, floor=0.3, scope="layer").apply(model, digits)  # says nothing there


def test_a_model_without_weights_is_refused(digits: Task) -> None:
    from lessen.core.run import Run

    with pytest.raises(Refused, match="no convolution or linear layer"):
        MagnitudePrune()._apply(nn.Sequential(nn.Flatten()), digits, Run())


def test_after_int8_the_integers_are_ranked_and_keep_their_scales(digits: Task, model: Any) -> None:
    quantized, _ = recipe("Int8()").apply(model, digits)
    pruned, _ = MagnitudePrune(sparsity=0.5, scope="layer").apply(quantized, digits)
    for path, layer in layers.weighted(pruned).items():
        before = layers.weighted(quantized)[path]
        was, now = before.effective_weight(), layer.effective_weight()
        assert layer.wq is not None and before.wq is not None
        assert torch.equal(layer.wq.scale, before.wq.scale)
        assert torch.equal(now, torch.where(layer.mask, was, 0.0))  # type: ignore[arg-type]
        assert was[layer.mask].abs().min() >= was[~layer.mask].abs().max()  # type: ignore[index,operator]
