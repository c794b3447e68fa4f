"""Counts are exact, thresholds strict, and what was pruned stays pruned."""

import pytest
import torch
from torch import nn

from lessen.ops import layers, sparsity


def net(*values: list[float]) -> dict[str, layers.Conv2d | layers.Linear]:
    """Linear layers of one output each, weights as given."""
    made = nn.ModuleDict({f"l{i}": layers.Linear(len(v), 1, bias=False) for i, v in enumerate(values)})
    for layer, v in zip(made.values(), values, strict=True):
        layer.weight.data = torch.tensor([v])
    return layers.weighted(made)


def kept(masks: dict[str, torch.Tensor]) -> list[list[int]]:
    return [mask.flatten().int().tolist() for mask in masks.values()]


@pytest.mark.parametrize("n", [1, 7, 100, 1001])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_exactly_round_n_s_zeros_and_the_kept_lie_above_the_kth_value(n: int, share: float) -> None:
    values = torch.randn(n, generator=torch.Generator().manual_seed(n)).abs()
    mask = sparsity.largest(values, sparsity.zero_count(n, share))
    assert int((~mask).sum()) == round(n * share)
    if 0 < round(n * share) < n:
        assert values[mask].min() > values[~mask].max()  # strict: these values have no ties


def test_ties_go_by_the_second_value_then_by_position() -> None:
    first = torch.tensor([2.0, 1.0, 1.0, 1.0, 3.0])
    assert sparsity.largest(first, 2).tolist() == [True, False, False, True, True]
    assert sparsity.largest(first, 2, torch.tensor([0, 9.0, 5, 7, 0])).tolist() == [True, True, False, False, True]
    assert sparsity.largest(first, 5).tolist() == [False] * 5


def test_global_ranking_joins_layers_and_layer_ranking_does_not() -> None:
    weights = net([1.0, 2.0, -3.0, 4.0], [-10.0, 20.0, 30.0, 40.0])
    assert kept(sparsity.global_masks(weights, 0.5)) == [[0, 0, 0, 0], [1, 1, 1, 1]]
    assert kept(sparsity.layer_masks(weights, 0.5)) == [[0, 0, 1, 1], [0, 0, 1, 1]]


def test_the_floor_holds_in_every_layer_and_the_total_stays_exact() -> None:
    weights = net([1.0, 2.0, -3.0, 4.0], [-10.0, 20.0, 30.0, 40.0])
    assert kept(sparsity.global_masks(weights, 0.5, floor=0.25)) == [[0, 0, 0, 1], [0, 1, 1, 1]]
    assert kept(sparsity.global_masks(weights, 0.5, floor=0.5)) == [[0, 0, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.73, 0.9, 0.99])
def test_the_total_is_exact_at_the_largest_floor_possible(share: float) -> None:
    torch.manual_seed(0)
    weights = net(*[(torch.randn(n) * 10**i).tolist() for i, n in enumerate((3, 17, 50, 201))])
    masks = sparsity.global_masks(weights, share, floor=1 - share)
    assert sum(int((~m).sum()) for m in masks.values()) == round(271 * share)
    for mask in masks.values():
        assert int(mask.sum()) >= int((1 - share) * mask.numel())


def test_earlier_masks_count_and_never_come_back() -> None:
    weights = net([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])
    weights["l1"].set_mask(torch.tensor([[True, True, True, False]]))  # the largest of all is gone
    assert kept(sparsity.global_masks(weights, 0.25)) == [[0, 1, 1, 1], [1, 1, 1, 0]]
    assert kept(sparsity.global_masks(weights, 0.0)) == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert kept(sparsity.layer_masks(weights, 0.5)) == [[0, 0, 1, 1], [0, 1, 1, 0]]


def test_quantized_layers_are_ranked_by_what_they_compute_with() -> None:
    weights = net([0.9, 1.4, 2.6, 0.6])
    layer = weights["l0"]
    layer.wq = layers.WeightQuantizer(torch.tensor([1.0]), bits=8)  # effective 1, 1, 3, 1
    assert layer.effective_weight().tolist() == [[1.0, 1.0, 3.0, 1.0]]
    assert kept(sparsity.layer_masks(weights, 0.25)) == [[1, 1, 1, 0]]  # equal integers: the smallest weight goes
    layer.wq = layers.WeightQuantizer(torch.tensor([0.01]), bits=2)  # clipped: all equal 0.01
    assert kept(sparsity.layer_masks(weights, 0.5)) == [[0, 1, 1, 0]]
