"""Whatever was done to a model, its specs (as JSON) and tensors make it again: same outputs, bit for bit."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lessen.core.errors import BadArtifact
from lessen.ops import layers, structure


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Net(nn.Module):
    """Two blocks of a user's own module, a table of its own, and every place a spec can stand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")))
        self.block, self.pool = Block(8), nn.AvgPool2d(2, count_include_pad=False, padding=1)
        self.shift = nn.Parameter(torch.randn(1, 8, 1, 1))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.block(self.stem(x))) + self.shift)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        self.add = layers.Add()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.add(x, self.norm(self.conv(x))))


def mask(model: nn.Module) -> None:
    for layer in layers.weighted(model).values():
        layer.set_mask(torch.rand_like(layer.weight) > 0.3)


def quantize(model: nn.Module) -> None:
    for layer in layers.weighted(model).values():
        layer.wq = layers.WeightQuantizer.fitting(layer, 8)
    for path in ("block.act", "block.add"):
        if path in layers.sites(model):
            site = layers.sites(model)[path]
            site.oq = layers.ActivationQuantizer()
            site.oq.set_range(torch.tensor(-1.0), torch.tensor(4.0))
    first = next(iter(layers.weighted(model).values()))
    first.iq = layers.ActivationQuantizer(4)
    first.iq.set_range(torch.tensor(-3.0), torch.tensor(3.0))


def cut(model: nn.Module) -> None:
    """Every width of the net from 8 to 5."""
    keep, found = torch.tensor([0, 2, 3, 6, 7]), layers.weighted(model)
    for path, layer in found.items():
        layer.take(out=keep if "head" not in path else None, inn=keep if "stem" not in path else None)
    norm = model.block.norm
    norm.num_features = 5
    norm.weight, norm.bias = nn.Parameter(norm.weight[keep]), nn.Parameter(norm.bias[keep])
    norm.running_mean, norm.running_var = norm.running_mean[keep], norm.running_var[keep]
    model.shift = nn.Parameter(model.shift[:, keep])


def factorize(model: nn.Module) -> None:
    conv = model.block.conv
    pair = nn.Sequential(
        layers.Conv2d(conv.in_channels, 3, 3, padding=1, bias=False), layers.Conv2d(3, conv.out_channels, 1)
    )
    model.block.conv = nn.Sequential(pair)  # nested, as when a factor is factorized again


def remove(model: nn.Module) -> None:
    model.block.norm = nn.Identity()
    model.head[2] = nn.Dropout(0.5)


CHANGES: list[list[Callable[[nn.Module], None]]] = [
    [], [mask], [quantize], [cut], [factorize], [remove], [mask, quantize], [quantize, mask], [mask, cut, quantize],
    [quantize, mask, cut], [remove, factorize, mask, quantize],
]  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES, ids=lambda c: "-".join(f.__name__ for f in c) or "nothing")
def test_a_changed_model_comes_back_bit_for_bit(changes: list[Callable[[nn.Module], None]]) -> None:
    model, x = layers.own(Net()), torch.randn(4, 3, 8, 8)
    for change in changes:
        change(model)
    model.train()(x)  # batch norm has seen something
    tensors = {k: v.clone() for k, v in structure.tensors(model).items()}
    specs = json.loads(json.dumps(structure.differences(model, Net())))
    twin = structure.restore(Net(), specs, tensors)
    assert bool(specs) == bool(changes)
    assert torch.equal(twin.eval()(x), model.eval()(x))
    assert structure.differences(twin, Net()) == structure.differences(model, Net())
    assert {k: p.requires_grad for k, p in twin.named_parameters()} == {
        k: p.requires_grad for k, p in model.named_parameters()
    }
    for path, layer in layers.weighted(model).items():
        other = layers.weighted(twin)[path]
        assert torch.equal(layer.effective_weight(), other.effective_weight())
        assert (layer.mask is None) == (other.mask is None)
        assert layer.mask is None or (other.mask is not None and torch.equal(layer.mask, other.mask))
    twin.train()(x).sum().backward()  # and goes on training


def test_only_what_differs_is_described() -> None:
    model = layers.own(Net())
    model.block.conv.set_mask(torch.rand_like(model.block.conv.weight) > 0.5)
    assert list(structure.differences(model, Net())) == ["block.conv"]


def test_what_the_builder_froze_stays_frozen() -> None:
    def fresh() -> nn.Module:
        model = layers.own(Net())
        model.stem.conv.requires_grad_(False)
        return model

    model = fresh()
    quantize(model)
    twin = structure.restore(fresh(), structure.differences(model, fresh()), structure.tensors(model))
    assert [k for k, p in twin.named_parameters() if not p.requires_grad] == ["stem.conv.weight", "stem.conv.bias"]


def test_the_order_of_changes_leaves_no_trace() -> None:
    one, other = layers.own(Net()), layers.own(Net())
    for change in (mask, quantize, cut):
        change(one)
    for change in (cut, quantize, mask):
        change(other)
    assert structure.differences(one, Net()) == structure.differences(other, Net())


def test_a_class_written_inside_a_builder_is_one_class() -> None:
    def build() -> nn.Module:
        class Inner(Net):
            pass

        return Inner()

    model = layers.own(build())
    mask(model)
    specs = structure.differences(model, build())
    assert list(specs) == ["stem.conv", "block.conv", "head.3"]
    twin, x = structure.restore(build(), specs, structure.tensors(model)), torch.randn(2, 3, 8, 8)
    assert torch.equal(twin.eval()(x), model.eval()(x))


def test_a_whole_model_may_be_a_spec() -> None:
    fresh = nn.Sequential(nn.Linear(4, 2))
    model = layers.own(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Sequential(), nn.Linear(3, 2)))
    specs = structure.differences(model, fresh)
    twin, x = structure.restore(fresh, specs, structure.tensors(copy.deepcopy(model))), torch.randn(2, 4)
    assert list(specs) == [""] and torch.equal(twin(x), model(x)) and len(twin) == 4  # type: ignore[arg-type]


EVERY = [
    nn.Conv2d(4, 6, (3, 1), stride=2, padding=(1, 0), dilation=1, groups=2, bias=False),
    nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), nn.Linear(4, 2, bias=False),
    nn.BatchNorm2d(4, eps=1e-3, momentum=0.3), nn.BatchNorm2d(4, affine=False),
    nn.BatchNorm2d(4, track_running_stats=False), nn.LayerNorm(4, eps=1e-3),
    nn.LayerNorm((4, 2), elementwise_affine=False), nn.LayerNorm(4, bias=False), nn.ReLU(), nn.ReLU6(), nn.SiLU(),
    nn.ReLU(inplace=True), nn.SiLU(inplace=True), nn.Dropout(0.3, inplace=True), nn.GELU("tanh"), nn.Sigmoid(),
    nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False, divisor_override=5),
    nn.AdaptiveAvgPool2d((2, 1)), nn.Dropout(0.3), nn.Flatten(2), nn.Identity(), layers.Add(), layers.Mul(),
    layers.Cat(),
]  # fmt: skip


@pytest.mark.parametrize("layer", EVERY, ids=repr)
def test_every_layer_is_described_whole(layer: nn.Module) -> None:
    layer = layers.own(layer)
    twin = structure.make(json.loads(json.dumps(structure.describe(layer))))
    assert repr(twin) == repr(layer) and list(twin.state_dict()) == list(layer.state_dict())
    told = {k: v for k, v in vars(layer).items() if not k.startswith("_") and not callable(v)}
    assert {k: vars(twin)[k] for k in told} == told


def test_every_type_of_the_specs_is_tried() -> None:
    assert {type(layers.own(layer)) for layer in EVERY} == set(structure.ARGUMENTS)


def test_what_specs_do_not_know_is_refused_by_its_path() -> None:
    class Odd(nn.Module):
        pass

    model = layers.own(Net())
    model.block.conv = Odd()
    with pytest.raises(BadArtifact, match=r"'block\.conv' is a Odd, which cannot be described"):
        structure.differences(model, Net())


def test_tensors_that_do_not_fit_are_refused() -> None:
    model = layers.own(Net())
    tensors = structure.tensors(model)
    missing = {k: v for k, v in tensors.items() if k != "block.conv.bias"}
    wrong = {**tensors, "block.conv.bias": torch.zeros(7)}
    extra = {**tensors, "ghost": torch.zeros(1)}
    for bad, name in ((missing, "block.conv.bias"), (wrong, "block.conv.bias"), (extra, "ghost")):
        with pytest.raises(BadArtifact, match=name):
            structure.restore(Net(), {}, bad)
    with pytest.raises(BadArtifact, match="unknown layer type"):
        structure.restore(Net(), {"block.conv": {"type": "LSTM"}}, tensors)


def test_tied_tensors_are_stored_apart_and_contiguous() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[0].bias = nn.Parameter(torch.zeros(4, 2).t()[0])
    found = structure.tensors(model)
    assert len({t.data_ptr() for t in found.values()}) == 4 and all(t.is_contiguous() for t in found.values())


def test_tensors_of_an_empty_slot_are_not_lost() -> None:
    model = layers.own(Net())
    quantize(model)
    specs = structure.differences(model, Net())
    with pytest.raises(BadArtifact, match=r"no place for 'head\.3\.wq\.scale'; pack the model again"):
        structure.restore(Net(), {k: v for k, v in specs.items() if k != "head.3"}, structure.tensors(model))


def test_a_layer_that_is_one_with_a_missing_one_is_refused() -> None:
    with pytest.raises(BadArtifact, match="says that 'b' is 'a', which it does not have"):
        structure.make({"same_as": "a"}, "b")


@pytest.mark.parametrize("shared", ["both", "none", "two", "other"])
@pytest.mark.parametrize("changed", ["a", "b", "both", "none"])
def test_what_stands_at_several_paths_comes_back_so(shared: str, changed: str) -> None:
    def build() -> nn.Module:
        model = nn.Module()
        model.a = model.b = model.c = nn.Linear(4, 4)
        model.d = nn.Linear(4, 4)
        return model

    model = layers.own(build())
    if shared in ("none", "two"):
        model.b = layers.Linear(4, 4)
        model.c = model.b if shared == "two" else layers.Linear(4, 4)
    if shared == "other":
        model.d = model.c
    for name in {"both": "ab", "none": ""}.get(changed, changed):
        getattr(model, name).set_mask(half := torch.rand(4, 4) > 0.5)
        assert not half.all()
    specs = json.loads(json.dumps(structure.differences(model, build())))
    twin = structure.restore(build(), specs, structure.tensors(model))
    met = [{id(module): path for path, module in reversed(list(net.named_modules()))} for net in (model, twin)]
    for name in "abcd":
        one, other = getattr(model, name), getattr(twin, name)
        assert met[0][id(one)] == met[1][id(other)]
        assert torch.equal(one.weight, other.weight) and (one.mask is None) == (other.mask is None)
    if shared == "both" and changed == "none":
        assert not specs
