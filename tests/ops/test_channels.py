"""Cut channels: which, how many, and that the smaller net computes what the larger one does without them."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from lessen import models
from lessen.core.errors import Refused
from lessen.ops import channel_cuts, channel_groups, channel_scores, channels, cost, layers, structure
from lessen.ops.channels import Plan


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Our layers in double precision, every value of weights and norms random, hence unique."""
    torch.manual_seed(seed)
    model = layers.own(model).double().eval()
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point():
            value.data = torch.rand_like(value) + 0.5 if "var" in name else torch.randn_like(value) * 0.3
    return model


def without(model: nn.Module, cut: nn.Module) -> nn.Module:
    """The whole model whose layers ignore the input channels that `cut` lacks; found by the values of its weights."""
    deaf, kept_layers = copy.deepcopy(model), layers.weighted(cut)
    for path, layer in layers.weighted(deaf).items():
        if isinstance(layer, layers.Conv2d) and layer.groups == layer.in_channels:
            continue  # depthwise: who reads it ignores its channel
        old, new = (
            w.detach().flatten(2)[..., 0] if w.dim() > 2 else w.detach()
            for w in (layer.weight, kept_layers[path].weight)
        )
        column = {v: i for row in old.tolist() for i, v in enumerate(row)}
        kept = {column[v] for v in new[0].tolist()}
        gone = [i for i in range(old.shape[1]) if i not in kept]
        layer.weight.data[:, gone] = 0
    return deaf


def check(model: nn.Module, sample: Tensor, plan: Plan) -> nn.Module:
    model = lively(model)
    cut, _ = channels.prune(model, sample.double(), plan)
    torch.testing.assert_close(cut(sample.double()), without(model, cut)(sample.double()), rtol=1e-8, atol=1e-8)
    return cut


def out_widths(model: nn.Module) -> list[int]:
    return [width for _, width in channels.widths(model)]


class Wired(nn.Module):
    """Residual, concat, squeeze-and-excitation, depthwise, grouped and flatten in one small net."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.body, self.add = nn.Conv2d(8, 8, 3, padding=1), layers.Add()
        self.squeeze, self.excite, self.mul = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), layers.Mul()
        self.side, self.cat = nn.Conv2d(8, 6, 1), layers.Cat()
        self.depthwise, self.pointwise = nn.Conv2d(14, 14, 3, padding=1, groups=14), nn.Conv2d(14, 12, 1)
        self.grouped, self.pool = nn.Conv2d(12, 12, 3, groups=3), nn.AvgPool2d(2)
        self.hidden, self.head = nn.Linear(12 * 9, 10), nn.Linear(10, 5)
        self.relu, self.gate = nn.ReLU(), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = self.add(x, self.body(x))
        x = self.mul(x, self.gate(self.excite(self.relu(self.squeeze(x.mean((2, 3), keepdim=True))))))
        x = self.cat(x, self.side(x))
        x = self.relu(self.pointwise(self.depthwise(x)))
        x = self.pool(self.grouped(x))
        return self.head(self.relu(self.hidden(x.flatten(1))))


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


# --- how many, and which


def test_layer_scope_keeps_rounded_shares_and_at_least_one() -> None:
    scores = [torch.rand(n) for n in (10, 3, 1)]
    assert channels.kept_counts(scores, Plan(0.3)) == [7, 2, 1]
    assert channels.kept_counts(scores, Plan(0.95)) == [1, 1, 1]
    assert channels.kept_counts(scores, Plan(0.0)) == [10, 3, 1]


def test_global_scope_removes_the_lowest_of_all_down_to_the_floor() -> None:
    scores = [torch.tensor([1.0, 2, 3, 4]), torch.tensor([10.0, 20, 30, 40])]
    assert channels.kept_counts(scores, Plan(0.5, "global")) == [1, 3]  # one always stays
    assert channels.kept_counts(scores, Plan(0.5, "global", floor=0.5)) == [2, 2]
    assert channels.kept_counts(scores, Plan(0.25, "global", floor=0.5)) == [2, 4]
    assert channels.kept_counts(scores, Plan(0.9, "global", floor=0.5)) == [2, 2]  # the floor wins over the ratio


def test_widths_are_rounded_to_the_nearest_multiple_and_never_below_it() -> None:
    cases = {(11, 16, 16): 16, (5, 16, 16): 16, (23, 32, 16): 16, (25, 32, 16): 32, (24, 32, 16): 16, (45, 64, 16): 48,
             (28, 30, 16): 16, (5, 6, 8): 6, (6, 6, 4): 6, (3, 10, 1): 3}  # fmt: skip
    assert {case: channels.rounded(*case) for case in cases} == cases


def test_the_lowest_scores_go() -> None:
    scores = torch.tensor([3.0, 1.0, 1.0, 2.0])
    assert channels.lowest(scores, 2) == [1, 2]
    assert channels.lowest(scores, 3) == [1]  # ties: the first
    assert channels.lowest(scores, 4) == []


@pytest.mark.parametrize(("criterion", "p"), [("l1", 1), ("l2", 2)])
@pytest.mark.parametrize("name", ["vgg8(width=0.125)", "resnet8(width=0.5)"])
def test_the_same_channels_go_as_in_torch_prunings_own_pruner(name: str, criterion: channels.Criterion, p: int) -> None:
    torch.manual_seed(0)
    model = layers.own(models.build(name, shape=(3, 32, 32), classes=5)).eval()
    x = torch.randn(1, 3, 32, 32)
    theirs = layers.plain(model)
    head = next(m for m in reversed(list(theirs.modules())) if isinstance(m, nn.Linear))
    pruner = tp.pruner.MagnitudePruner(
        theirs, (x,), importance=tp.importance.MagnitudeImportance(p=p), pruning_ratio=0.5, ignored_layers=[head]
    )
    pruner.step()
    ours = layers.plain(channels.prune(model, x, Plan(0.5, criterion=criterion))[0]).state_dict()
    for path, value in theirs.state_dict().items():
        assert torch.equal(value, ours[path]), path


def test_chance_follows_the_seed() -> None:
    model = lively(Wired())

    def chosen(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return channels.prune(model, X.double(), Plan(0.5, criterion="random"))[0].stem.weight.flatten().tolist()

    assert chosen(1) == chosen(1) != chosen(2)


# --- the cut


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_every_kind_of_wire_follows(ratio: float, scope: channels.Scope) -> None:
    model = Wired()
    cut = check(model, X, Plan(ratio, scope))
    assert cost.macs(cut, X[:1].double()) < cost.macs(layers.own(model), X[:1].double())
    assert cut.head.weight.shape[0] == 5  # the logits stay


def test_the_layer_ratio_is_the_share_removed_of_every_group() -> None:
    cut = check(Wired(), X, Plan(0.5))
    assert out_widths(cut) == [4, 4, 2, 4, 3, 7, 6, 6, 5, 5]
    assert (cut.grouped.groups, cut.grouped.weight.shape[1], cut.depthwise.groups) == (3, 2, 7)


def test_widths_of_grouped_layers_are_rounded_as_a_whole() -> None:
    assert out_widths(check(Wired(), X, Plan(0.5, round_to=6)))[6:8] == [6, 6]
    assert out_widths(check(Wired(), X, Plan(0.25, round_to=4))) == [4, 4, 4, 4, 4, 8, 12, 12, 8, 5]


@pytest.mark.parametrize(
    "name",
    [
        "vgg8(width=0.125)", "resnet8(width=0.5)", "wrn(depth=10, widen=1)", "cnn",
        "mobilenetv2(width=0.35)", "densenet(depth=10, growth=6)", "vit(depth=1, dim=32)",
    ],
)  # fmt: skip
def test_the_zoo_cut_computes_what_it_does_without_those_channels(name: str) -> None:
    model = models.build(name, shape=(3, 32, 32), classes=5)
    whole = ("patches",) if name.startswith("vit") else ()  # a layer norm mixes the channels it sees
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    cut = check(model, x, Plan(0.5, whole=whole))
    assert cost.macs(cut, x[:1].double()) < cost.macs(layers.own(model), x[:1].double())


def test_sorting_channels_leaves_the_outputs_unchanged() -> None:
    for net, x in ((Wired(), X), (models.build("vit(depth=1, dim=64, heads=4)", shape=(3, 8, 8), classes=5), X)):
        model = lively(net)
        shadow = layers.plain(model)
        groups, _ = channel_groups.find(channel_groups.dependencies(shadow, x.double()), model)
        found = channel_scores.scores(shadow, groups, "l2", None)
        moved = copy.deepcopy(model)
        for group, scores in zip(groups, found, strict=True):
            assert scores is not None
            order = scores.argsort(descending=True)
            channel_cuts.permute(moved, group, order)
            same = torch.equal(moved.get_submodule(group.path).weight, model.get_submodule(group.path).weight)
            assert same == torch.equal(order, torch.arange(group.n))
        assert len(groups) >= 3
        torch.testing.assert_close(moved(x.double()), model(x.double()), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet50(width=0.25)", "densenet", "fast75(views=2)", "resnet56"])
def test_the_large_zoo_too(name: str, scope: channels.Scope) -> None:
    model = models.build(name, shape=(3, 32, 32), classes=5)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    cut = check(model, x, Plan(0.5, scope, floor=0.1))
    assert cost.macs(cut, x[:1].double()) < 0.7 * cost.macs(layers.own(model), x[:1].double())


@pytest.mark.parametrize(("ratio", "heads"), [(0.25, 2), (0.5, 1), (0.9, 1)])
def test_a_transformer_gets_thinner_tokens_and_loses_whole_heads(ratio: float, heads: int) -> None:
    model = lively(models.build("vit(depth=1, dim=64, heads=2)", shape=(3, 32, 32), classes=5))
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    cut, notes = channels.prune(model, x, Plan(ratio))
    attention, dim = cut.encoders[0].attention, round(64 * (1 - ratio))
    assert [getattr(attention, n).weight.shape for n in "qkv"] == [(32 * heads, dim)] * 3
    assert attention.project.weight.shape == (dim, 32 * heads)
    assert cut.position.shape == (1, 64, dim) and cut.norm.normalized_shape == (dim,)
    assert cut.encoders[0].mlp[0].weight.shape == (round(128 * (1 - ratio)), dim)
    assert notes == ["left whole, the model's output: head"]
    kept = [model.position.flatten().tolist().index(v) for v in cut.position[0, 0].tolist()]
    for name in ("norm", "encoders.0.norm1", "encoders.0.norm2"):  # in order: a set of indices has none
        assert torch.equal(cut.get_submodule(name).weight, model.get_submodule(name).weight[kept])


def test_masks_scales_and_factors_go_with_their_channels() -> None:
    model = lively(Wired()).float()
    for i, layer in enumerate(layers.weighted(model).values()):
        if i % 2:
            layer.set_mask(torch.rand_like(layer.weight) > 0.3)
        layer.wq = layers.WeightQuantizer.fitting(layer, bits=8)
        layer.oq = layers.ActivationQuantizer.covering(torch.tensor(-1.0), torch.tensor(1.0))
    model.body = nn.Sequential(layers.Conv2d(8, 5, 3, padding=1, bias=False), layers.Conv2d(5, 8, 1))
    before = {k: structure.describe(m) for k, m in layers.weighted(model).items()}
    cut, _ = channels.prune(model, X, Plan(0.5))
    assert (len(cut.body[0].weight), len(cut.body[1].weight)) == (2, 4)
    for path, layer in layers.weighted(cut).items():
        spec = structure.describe(layer)
        assert [spec.get(k) for k in ("wq", "oq", "mask")] == [before[path].get(k) for k in ("wq", "oq", "mask")]
        if layer.wq is not None:
            assert len(layer.wq.scale) == len(layer.weight)
        if layer.mask is not None:
            assert not layer.weight[~layer.mask].any()


def test_the_given_model_stays_and_an_artifacts_structure_describes_the_cut() -> None:
    model = lively(Wired())
    state = copy.deepcopy(model.state_dict())
    cut, _ = channels.prune(model, X.double(), Plan(0.5))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    again = structure.restore(Wired().double(), structure.differences(cut, Wired()), structure.tensors(cut)).eval()
    assert torch.equal(again(X.double()), cut(X.double()))


def test_nothing_is_printed_or_warned(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        channels.prune(lively(models.build("vit(depth=1, dim=32)")), torch.randn(1, 3, 32, 32).double(), Plan(0.5))
    assert capsys.readouterr() == ("", "")


# --- what cannot be cut


class Odd(nn.Module):
    """Parts that torch-pruning or a spec cannot follow, beside one that they can."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.normed = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.second = nn.Conv2d(8, 6, 1)
        self.multiplied = nn.Conv2d(6, 12, 3, padding=1, groups=6)
        self.third, self.head = nn.Conv2d(12, 10, 1), nn.Conv2d(10, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.multiplied(self.second(self.normed(self.first(x))))
        return self.head(self.third(x)).mean((2, 3))


def test_what_cannot_be_cut_is_left_and_named() -> None:
    cut, notes = channels.prune(lively(Odd()), X.double(), Plan(0.5))
    assert out_widths(cut) == [8, 6, 12, 5, 4]
    said = "\n".join(sorted(notes))
    assert "coupled with a GroupNorm that cannot be cut: first" in said
    assert "depthwise with a channel multiplier: multiplied, second" in said
    assert "the model's output: head" in said


def test_layers_asked_to_stay_do() -> None:
    cut = check(Wired(), X, Plan(0.5, whole=("body", "hidden")))
    assert out_widths(cut) == [8, 8, 2, 8, 3, 11, 6, 6, 10, 5]


def test_narrow_layers_stay_when_widths_are_rounded() -> None:
    cut, notes = channels.prune(lively(Wired()), X.double(), Plan(0.5, round_to=8))
    assert out_widths(cut)[:5] == [8, 8, 4, 8, 6]
    assert any("narrower than 8 channels" in n and "squeeze" in n and "side" in n for n in notes)


class Fixed(nn.Module):
    """Views its channels at a fixed width, which no longer exists once some are gone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 12, 3), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).reshape(len(x), 12, 36).mean(2))


def test_a_cut_that_breaks_the_model_is_refused_by_name_and_undone() -> None:
    model = lively(Fixed())
    with pytest.raises(Refused, match=r"does not run .*whole"):
        channels.prune(model, X.double(), Plan(0.5))
    assert model(X.double()).shape == (2, 4)


def test_a_model_that_raises_is_refused_in_one_line() -> None:
    with pytest.raises(Refused, match=r"channels cannot be followed through this model at 'stem': .*") as caught:
        channels.prune(lively(Wired()), torch.randn(2, 5, 8, 8).double(), Plan(0.5))
    assert "\n" not in str(caught.value)


class Through(nn.Module):
    """A step in the middle of a net that the tracer cannot follow."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "numpy":
            return torch.from_numpy(x.numpy() * 2)
        if self.how == "inference":
            with torch.inference_mode():
                return x * 2
        return x.detach() * 2


def through(how: str) -> nn.Module:
    head = [nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return layers.own(nn.Sequential(nn.Conv2d(3, 8, 3), Through(how), *head)).eval()


@pytest.mark.parametrize("how", ["numpy", "inference"])
def test_a_forward_the_tracer_cannot_follow_is_refused_by_its_module(how: str) -> None:
    mend = "write that module of layers and plain tensor operations, or leave ChannelPrune out"
    with pytest.raises(Refused, match=rf"through this model at '1': .*; {mend}") as caught:
        channels.prune(through(how), X, Plan(0.5))
    assert "tuple" not in str(caught.value)


def test_layers_the_tracer_does_not_see_are_left_and_named() -> None:
    cut, notes = channels.prune(through("detach"), X, Plan(0.5))
    assert out_widths(cut) == [8, 3, 4] and "left whole, the tracer does not see them: 0" in notes


def test_a_model_without_a_layer_to_cut_is_refused() -> None:
    only = layers.own(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)))
    with pytest.raises(Refused, match=r"no layer's channels may go \(left whole, the model's output: 1\)"):
        channels.prune(only, X, Plan(0.5))
