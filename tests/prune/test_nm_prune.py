"""NMPrune: the pattern holds in every group, earlier zeros count, short groups are named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lessen.catalog import recipe
from lessen.core.errors import BadField, Refused, UnknownName
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.ops import layers
from lessen.prune.nm_prune import NMPrune
from lessen.tasks import task as find


@pytest.fixture(scope="module")
def model(digits: Task) -> Any:
    with digits.seeded(0):
        return digits.build("resnet8(width=0.5)")


def largest_group(weight: torch.Tensor, m: int) -> int:
    """Most non-zeros in any m consecutive weights, (kh, kw, in) innermost last; worked without padding."""
    rows = (weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight).flatten(1)
    return max(int((part != 0).sum(1).max()) for part in rows.split(m, dim=1))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8), (3, 7)])
@pytest.mark.parametrize("criterion", ["magnitude", "gradient", "random"])
def test_no_group_holds_more_than_n(n: int, m: int, criterion: Any, digits: Task, model: Any) -> None:
    pruned, record = NMPrune(n=n, m=m, criterion=criterion).apply(model, digits)
    for path, layer in layers.weighted(pruned).items():
        assert largest_group(layer.weight.detach(), m) == min(n, layer.weight[0].numel()), path
        out, k = len(layer.weight), layer.weight[0].numel()
        zeros = out * (k // m * (m - n) + max(0, k % m - n))
        assert int((layer.weight == 0).sum()) == zeros and record.details["sparsity"][path] == zeros / (out * k)
    assert record.before.nonzeros - record.after.nonzeros == record.details["zeros"]


def test_short_last_groups_are_named(digits: Task, model: Any) -> None:
    _, record = NMPrune().apply(model, digits)
    assert record.details["last_group"] == {"features.stem.conv": 1}  # 1 x 3 x 3 = 2 groups of 4 and one more
    assert any("1 of 10 layers end in a group shorter than 4" in note for note in record.notes)
    assert "last_group" not in NMPrune(whole=("features.stem.conv",)).apply(model, digits)[1].details


def test_earlier_zeros_count_and_stay(digits: Task, trained: Any) -> None:
    first, one = recipe("MagnitudePrune(sparsity=0.5)").apply(trained, digits)
    both, record = NMPrune().apply(first, digits)
    separate = NMPrune().apply(trained, digits)[1]
    for path, layer in layers.weighted(both).items():
        earlier = layers.weighted(first)[path].mask
        assert earlier is None or not layer.weight[~earlier].any()
        assert largest_group(layer.weight.detach(), 4) <= 2
    assert record.details["zeros"] < one[0].details["zeros"] + separate.details["zeros"]  # they overlap
    again, twice = NMPrune().apply(both, digits)
    assert twice.details["zeros"] == record.details["zeros"]
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in both.state_dict().items())


def test_half_the_weights_by_groups_still_answer(digits: Task, trained: Any) -> None:
    dense = digits.evaluate(trained, "test")
    tuned, _ = recipe("NMPrune() >> Finetune(epochs=2, batch=32)").apply(trained, digits)
    assert (digits.evaluate(tuned, "test") or 0) > (dense or 1) - 0.03
    assert all(largest_group(w.weight.detach(), 4) <= 2 for w in layers.weighted(tuned).values())


def test_after_int8_the_integers_are_grouped(digits: Task, trained: Any) -> None:
    pruned, _ = recipe("Int8() >> NMPrune()").apply(trained, digits)
    for layer in layers.weighted(pruned).values():
        assert layer.wq is not None and largest_group(layer.effective_weight().detach(), 4) <= 2


def test_bad_fields_are_named(digits: Task, model: Any) -> None:
    with pytest.raises(BadField, match=r"NMPrune.n = 5 of m = 4"):
        NMPrune(n=5).apply(model, digits)
    with pytest.raises(UnknownName, match=r"layer in NMPrune.whole 'heads'; did you mean 'head'"):
        NMPrune(whole=("heads",)).apply(model, digits)
    with pytest.raises(Refused, match="no convolution or linear layer"):
        NMPrune()._apply(nn.Sequential(nn.Flatten()), digits, Run())


@pytest.mark.parametrize(
    "text", ["NMPrune()", "MagnitudePrune(sparsity=0.5)", "LotteryTicket(sparsity=0.5, epochs=1, rounds=1)"]
)
def test_what_takes_no_mask_is_named(text: str) -> None:
    small = find("digits(limit=100)")
    model = small.build("users_nets:Transposed")
    pruned, records = recipe(text).apply(model, small)
    assert "left dense, they take no mask: 'conv' (Centered), 'up' (ConvTranspose2d)" in records[0].notes
    assert layers.weighted(pruned)["head"].mask is not None
