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


# --- floors, thresholds, groups, ramps ---------------------------------------------------------------------------


def test_a_small_floor_still_keeps_one_weight_of_a_small_layer() -> None:
    weights = net([0.1, 0.2, 0.3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    assert kept(sparsity.global_masks(weights, 6 / 11, floor=0.0))[0] == [0, 0, 0]
    masks = kept(sparsity.global_masks(weights, 6 / 11, floor=0.01))
    assert masks == [[0, 0, 1], [0, 0, 0, 0, 1, 1, 1, 1]]


def test_a_threshold_keeps_strictly_above_it_and_the_floor() -> None:
    weights = net([0.1, -0.2, 0.3, -0.2001], [0.01, -0.02, 0.03, 0.04])
    assert kept(sparsity.threshold_masks(weights, 0.2)) == [[0, 0, 1, 1], [0, 0, 0, 0]]
    assert kept(sparsity.threshold_masks(weights, 0.2, floor=0.5)) == [[0, 0, 1, 1], [0, 0, 1, 1]]
    weights["l0"].set_mask(torch.tensor([[True, True, False, True]]))
    assert kept(sparsity.threshold_masks(weights, 0.15, floor=0.01)) == [[0, 1, 0, 1], [0, 0, 0, 1]]


def brute(values: list[float], living: list[bool], n: int, m: int) -> list[int]:
    """At most n of every m living values, the largest, the later of equal ones."""
    found = []
    for i in range(0, len(values), m):
        group = range(i, min(i + m, len(values)))
        alive = sorted((j for j in group if living[j]), key=lambda j: (abs(values[j]), j))[-n:]
        found += [int(j in alive) for j in group]
    return found


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (1, 2), (3, 5), (4, 4), (1, 16)])
@pytest.mark.parametrize("k", [8, 9, 3, 25])
def test_groups_keep_the_n_largest_of_m_with_a_remainder_and_earlier_masks(n: int, m: int, k: int) -> None:
    g = torch.Generator().manual_seed(k)
    values = torch.randint(-4, 5, (k,), generator=g).float()  # many ties
    weights = net(values.tolist(), values.flip(0).tolist())
    living = torch.rand(k, generator=g) > 0.3
    weights["l1"].set_mask(living[None])
    masks = kept(sparsity.group_masks(weights, n, m))
    assert masks[0] == brute(values.tolist(), [True] * k, n, m)
    assert masks[1] == brute(values.flip(0).tolist(), living.tolist(), n, m)


def test_groups_of_a_convolution_lie_along_its_input_channels() -> None:
    made = nn.ModuleDict({"c": layers.Conv2d(8, 3, 3, bias=False), "odd": layers.Conv2d(3, 2, 3, bias=False)})
    weights = layers.weighted(made)
    mask = sparsity.group_masks(weights, 2, 4)["c"]
    by_position = mask.permute(0, 2, 3, 1).reshape(3, 9, 2, 4)
    assert (by_position.sum(-1) == 2).all()  # two of four channels at every position of the kernel
    size = weights["c"].weight.abs().permute(0, 2, 3, 1).reshape(3, 9, 2, 4)
    assert (size.masked_fill(~by_position, 9).amin(-1) > size.masked_fill(by_position, -1).amax(-1)).all()
    odd = sparsity.group_masks(weights, 2, 4)["odd"].permute(0, 2, 3, 1).reshape(2, 27)
    assert odd[:, :24].reshape(2, 6, 4).sum(-1).eq(2).all() and odd[:, 24:].sum(-1).eq(2).all()


def test_ramps_follow_their_formulas() -> None:
    cubic = sparsity.updates("polynomial", 1000, 4, 0.2, 0.6)
    assert cubic == {300: 1 - 0.75**3, 400: 1 - 0.5**3, 500: 1 - 0.25**3, 600: 1.0}  # Zhu & Gupta, equation 1
    assert sparsity.updates("gradual", 100, 4, 0.0, 1.0) == {25: 0.25, 50: 0.5, 75: 0.75, 100: 1.0}
    assert sparsity.updates("constant", 100, 4, 0.25, 0.5) == {25: 1.0}
    assert sparsity.updates("one-shot", 100, 4, 0.25, 0.5) == {0: 1.0}
    assert sparsity.updates("gradual", 2, 9, 0.0, 1.0)[2] == 1.0  # more steps than there are: the last one decides


def test_a_goal_rises_from_the_zeros_that_were_there() -> None:
    weights = net([float(i) for i in range(1, 11)], [float(i) for i in range(11, 21)])
    weights["l0"].set_mask(torch.tensor([[False] * 4 + [True] * 6]))
    start = sparsity.zeros(weights)
    goal = sparsity.Goal(0.8, scope="global")

    def count(done: float, goal: sparsity.Goal = goal) -> list[int]:
        return [int((~m).sum()) for m in goal.masks(weights, None, done, start).values()]

    assert sum(count(0.5)) == 10 and sum(count(1.0)) == 16 and sum(count(0.0)) == 4  # 0.2 + (0.8 - 0.2) / 2 = 0.5
    assert count(0.5, sparsity.Goal(0.8, scope="layer")) == [6, 4]
    assert count(1.0, sparsity.Goal(0.5, scope="global", layers=(("l1", 0.1),))) == [5, 1]
    assert count(0.5, sparsity.Goal(threshold=14.0)) == [7, 0] and count(1.0, sparsity.Goal(threshold=14.0)) == [10, 4]


def test_the_account_counts_by_layer_and_by_kind() -> None:
    made = nn.ModuleDict(
        {"a": layers.Conv2d(4, 4, 3), "b": layers.Conv2d(4, 8, 1), "c": layers.Conv2d(4, 4, 3, groups=4),
         "d": layers.Conv2d(4, 4, 3, groups=2), "e": layers.Linear(4, 4), "f": layers.Linear(4, 4)}
    )  # fmt: skip
    weights = layers.weighted(made)
    weights["e"].set_mask(torch.arange(16).view(4, 4) >= 8)
    found = sparsity.account(weights)
    assert found["sparsity"] == {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.5, "f": 0.0}
    assert found["sparsity_by_kind"] == {
        "Conv2d": 0.0, "Conv2d 1x1": 0.0, "Conv2d depthwise": 0.0, "Conv2d grouped": 0.0, "Linear": 0.25,
    }  # fmt: skip
    assert (found["zeros"], found["weights"]) == (8, 144 + 32 + 36 + 72 + 16 + 16)
