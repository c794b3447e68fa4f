"""LowRank on a real task: thinner layers where that pays, and what earlier techniques won stays won."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lessen
from lessen.catalog import recipe
from lessen.core.errors import BadField, Refused, UnknownName
from lessen.core.task import Task
from lessen.factorize.low_rank import LowRank
from lessen.ops import layers, structure
from lessen.tasks import task


@pytest.fixture(scope="module")
def digits() -> Task:
    return task("digits")


@pytest.fixture(scope="module")
def model(digits: Task) -> Any:
    with digits.seeded(0):
        return digits.build("resnet8(width=0.5)")


def test_the_model_gets_smaller_and_ranks_and_errors_are_recorded(digits: Task, model: Any) -> None:
    thin, record = LowRank(keep=0.8).apply(model, digits)
    assert record.after.macs < record.before.macs and record.after.parameters < record.before.parameters
    for path, found in record.details["layers"].items():
        old, pair = model.get_submodule(path).weight.detach().flatten(1), thin.get_submodule(path).requires_grad_(False)
        error = (pair[1].weight.flatten(1) @ pair[0].weight.flatten(1) - old).norm() / old.norm()
        assert found["error"] == pytest.approx(float(error), rel=1e-4) and found["error"] <= 0.2**0.5
        assert len(pair[0].weight) == found["rank"] < found["full_rank"] == min(old.shape)


def test_an_error_is_an_upper_bound_for_every_layer(digits: Task, model: Any) -> None:
    _, record = LowRank(error=0.4).apply(model, digits)
    errors = [found["error"] for found in record.details["layers"].values()]
    assert errors and 0.3 < max(errors) <= 0.4 + 1e-6


def test_a_share_of_the_weights_is_never_exceeded(digits: Task, model: Any) -> None:
    _, record = LowRank(keep=0.5, by="parameters").apply(model, digits)
    shares = [found["weights"][1] / found["weights"][0] for found in record.details["layers"].values()]
    assert len(shares) > 5 and 0.4 < max(shares) <= 0.5
    assert record.after.parameters < 0.55 * record.before.parameters


def test_ranks_in_numbers_for_all_or_for_one(digits: Task, model: Any) -> None:
    first, last = "features.stage2.0.body.0.conv", "features.stage3.0.body.0.conv"
    _, record = LowRank(rank=4).apply(model, digits)
    assert {found["rank"] for found in record.details["layers"].values()} == {4}
    _, record = LowRank(keep=1.0, layers=((first, 3), (last, 7))).apply(model, digits)
    assert {path: found["rank"] for path, found in record.details["layers"].items()} == {first: 3, last: 7}
    _, record = LowRank(rank=4, layers=((first, 0), (last, 999))).apply(model, digits)
    assert not {first, last} & set(record.details["layers"]) and record.details["layers"]


def test_two_amounts_unknown_layers_and_empty_models_are_refused(digits: Task, model: Any) -> None:
    with pytest.raises(BadField, match=r"LowRank.error = 0.2 and LowRank.rank = 3 both say how much; give one"):
        LowRank(error=0.2, rank=3).apply(model, digits)
    with pytest.raises(UnknownName, match=r"layer in LowRank.layers 'hed'; did you mean 'head'"):
        LowRank(layers=(("hed", 2),)).apply(model, digits)
    with pytest.raises(BadField, match=r"LowRank.layers gives 'head' -1, which is below 0"):
        LowRank(layers=(("head", -1),)).apply(model, digits)
    with pytest.raises(Refused, match="finds no convolution or linear layer"):
        empty = nn.Sequential(nn.AdaptiveAvgPool2d((1, 10)), nn.Flatten(), nn.BatchNorm1d(10))
        LowRank().apply(empty, digits)


def test_parameters_multiplications_and_the_shipped_file_really_fall(digits: Task, model: Any, tmp_path: Path) -> None:
    thin, record = LowRank(keep=0.4, by="parameters").apply(model, digits)
    dense, small = lessen.pack(model, digits, tmp_path / "dense"), lessen.pack(thin, digits, tmp_path / "thin")
    size = [sum(f.stat().st_size for f in a.runnable) for a in (dense, small)]
    assert small.manifest.cost.macs == record.after.macs < 0.6 * dense.manifest.cost.macs
    assert small.manifest.cost.parameters == record.after.parameters < 0.5 * dense.manifest.cost.parameters
    assert size[1] < 0.6 * size[0]
    x = digits.inputs(digits.split("test").x[:8])
    assert torch.equal(small.model().eval()(x), thin.eval()(x))


def test_layers_that_would_not_save_stay_and_are_named(digits: Task, model: Any) -> None:
    thin, record = LowRank(keep=0.92).apply(model, digits)
    assert 0 < len(record.details["layers"]) < 10
    whole = [k for k in layers.weighted(layers.own(digits.copy(model))) if k not in record.details["layers"]]
    assert record.notes == (f"left whole, factors would not be smaller: {', '.join(whole)}",)
    for path in whole:
        assert torch.equal(thin.get_submodule(path).weight, model.get_submodule(path).weight)


def test_keeping_all_changes_nothing(digits: Task, model: Any) -> None:
    for by in ("energy", "rank"):
        same, record = LowRank(keep=1.0, by=by).apply(model, digits)
        assert record.before == record.after
        assert all(torch.equal(v, same.state_dict()[k]) for k, v in model.state_dict().items())


@torch.no_grad()
def test_more_energy_is_closer(digits: Task, model: Any) -> None:
    x = digits.inputs(digits.split("calibration").x[:64])
    expected = model.eval()(x)
    errors = [float((LowRank(keep=k).apply(model, digits)[0].eval()(x) - expected).norm()) for k in (0.5, 0.8, 0.95)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]


def test_the_structure_describes_the_factors(digits: Task, model: Any) -> None:
    thin, _ = LowRank(by="rank", keep=0.3).apply(model, digits)
    again = structure.restore(
        digits.build("resnet8(width=0.5)"),
        structure.differences(thin, digits.build("resnet8(width=0.5)")),
        structure.tensors(thin),
    )
    x = digits.inputs(digits.split("calibration").x[:8])
    assert torch.equal(again.eval()(x), thin.eval()(x))


def test_masks_are_refused_with_the_mend(digits: Task, model: Any) -> None:
    with pytest.raises(Refused, match=r"cannot follow MagnitudePrune because .* dense .*; do LowRank first"):
        recipe("MagnitudePrune() >> LowRank()").apply(model, digits)


def test_a_second_pass_factors_the_product_and_never_grows(digits: Task, model: Any) -> None:
    once, _ = LowRank(by="rank", keep=0.3).apply(model, digits)
    same, record = LowRank(by="rank", keep=0.3).apply(once, digits)
    assert record.before == record.after and record.details["layers"] == {}
    thinner, record = LowRank(by="rank", keep=0.15).apply(once, digits)
    assert record.after.macs < record.before.macs and record.after.weight_bits < record.before.weight_bits
    assert list(layers.weighted(thinner)) == list(layers.weighted(once))  # pairs of pairs are not nested
    assert same.state_dict().keys() == once.state_dict().keys()


def test_integer_layers_stay_integer_and_the_tensor_between_is_calibrated(digits: Task, model: Any) -> None:
    quantized, _ = recipe("Int8()").apply(model, digits)
    thin, record = LowRank(keep=0.7).apply(quantized, digits)
    assert record.after.weight_bits < record.before.weight_bits and record.after.macs < record.before.macs
    x = digits.inputs(digits.split("calibration").x)
    for path in record.details["layers"]:
        pair, old = thin.get_submodule(path), quantized.get_submodule(path)
        assert (pair[0].wq.bits, pair[1].wq.bits) == (8, 8)
        assert isinstance(pair[0].oq, layers.ActivationQuantizer) and pair[0].oq.scale.item() > 0
        assert (pair[0].iq is None, pair[1].oq is None) == (old.iq is None, old.oq is None)
    seen: list[torch.Tensor] = []
    path = next(iter(record.details["layers"]))
    thin.get_submodule(path)[0].oq.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    thin.eval()(x)
    oq = thin.get_submodule(path)[0].oq
    low, high = -oq.zero * oq.scale, (255 - oq.zero) * oq.scale
    assert low - oq.scale <= seen[0].min() and seen[0].max() <= high + oq.scale
    assert high - low < 1.05 * (seen[0].max() - seen[0].min())


def test_integer_weights_alone_get_no_activation_quantizer(digits: Task, model: Any) -> None:
    weights_only = layers.own(digits.copy(model))
    for layer in layers.weighted(weights_only).values():
        layer.wq = layers.WeightQuantizer.fitting(layer, bits=4)
    thin, record = LowRank(keep=0.5).apply(weights_only, digits)
    assert record.details["layers"]
    assert not any(isinstance(m, layers.ActivationQuantizer) for m in thin.modules())


class Reads(nn.Module):
    """A user's model that reads a layer's weight, which a Sequential does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.linear(x.flatten(1), self.hidden.weight))


def test_a_model_that_cannot_run_with_factors_is_refused(digits: Task) -> None:
    with pytest.raises(Refused, match="does not run with the factors"):
        LowRank(by="rank", keep=0.1).apply(Reads(), digits)
