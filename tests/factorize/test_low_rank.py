"""LowRank on a real task: thinner layers where that pays, and what earlier techniques won stays won."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lessen.catalog import recipe
from lessen.core.errors import Refused
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
