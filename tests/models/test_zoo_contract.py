"""What holds for every model of the zoo, because it is in the zoo."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from torch import fx, nn

from lessen import models
from lessen.core.text import Call
from lessen.ops import graph, layers

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Softmax)
KNOWN = (  # what techniques, structure and export know; containers and families' own blocks hold no tensors but these
    nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.LayerNorm, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten,
    nn.Dropout, nn.Identity, layers.Add, layers.Mul, layers.Cat, *ACTIVATIONS,
)  # fmt: skip
TWINS = (
    "vgg", "vgg13", "vgg16", "resnet", "resnet32", "resnet44", "resnet56", "resnet110", "resnet34", "wrn", "wrn16_1",
    "wrn40_1", "wrn40_2", "wrn28_10",
)  # fmt: skip
ZOO = [pytest.param(n, marks=pytest.mark.slow) if n in TWINS else n for n in models.names()]  # all of it, twins slowly


@cache
def thin(name: str) -> nn.Module:
    """A narrow member of the family, in evaluation mode; tests leave it as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.build(f"{name}(width=0.25)", classes=7).eval()


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8)])
def test_any_shape_gives_one_logit_a_class(name: str, shape: tuple[int, int, int]) -> None:
    model = models.build(f"{name}(width=0.1)", shape=shape, classes=5).eval()
    with torch.no_grad():
        y = model(torch.randn(2, *shape))
    assert y.shape == (2, 5)
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("name", ZOO)
def test_forward_is_a_graph_for_any_batch(name: str) -> None:
    model = layers.own(models.build(f"{name}(width=0.25)", classes=7)).eval()
    traced = graph.trace(model)
    assert traced is not None
    run = fx.GraphModule(model, traced)
    for batch in (1, 3):
        x = torch.randn(batch, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(run(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ZOO)
def test_one_module_a_use(name: str) -> None:
    model, calls = thin(name), {}
    used = [m for m in model.modules() if not isinstance(m, nn.Sequential)]
    handles = [m.register_forward_hook(lambda m, *_: calls.update({m: calls.get(m, 0) + 1})) for m in used]
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    for handle in handles:
        handle.remove()
    assert {m: calls.get(m, 0) for m in used} == dict.fromkeys(used, 1)
    assert any(isinstance(m, ACTIVATIONS) for m in used)


@pytest.mark.parametrize("name", ZOO)
def test_activations_and_sums_are_modules_not_calls(name: str) -> None:
    traced = graph.trace(layers.own(models.build(f"{name}(width=0.1)")))
    assert traced is not None
    calls = {str(getattr(n.target, "__name__", n.target)) for n in traced.nodes if n.op.startswith("call_f")}
    methods = {str(n.target) for n in traced.nodes if n.op == "call_method"}
    assert calls <= ({"matmul", "mul"} if name == "vit" else {"mul"} if name == "fast75" else set())
    assert methods <= {"flatten", "transpose", "unflatten", "mean", "amax"}


@pytest.mark.parametrize("name", ZOO)
def test_layers_are_ones_that_techniques_know(name: str) -> None:
    for path, module in thin(name).named_modules():
        bare = list(module.named_parameters(recurse=False)) and type(module) not in KNOWN
        assert not bare or (name, path) == ("vit", ""), path  # the position embedding stands in ViT itself
        assert type(module) in KNOWN or list(module.children()), path


@pytest.mark.parametrize("name", ZOO)
def test_rebuild_makes_the_architecture_again(name: str) -> None:
    model = thin(name)
    call: Any = model.builder
    again = Call(call.name, json.loads(json.dumps(call.args)))
    before = torch.get_rng_state()
    rebuilt = models.rebuild(again)
    assert torch.equal(torch.get_rng_state(), before)
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
    assert [type(m) for m in rebuilt.modules()] == [type(m) for m in model.modules()]
    assert rebuilt.builder == call


@pytest.mark.parametrize("name", ZOO)
def test_weights_follow_from_the_seed(name: str) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return models.build(f"{name}(width=0.1)").state_dict()

    one, two, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("name", ZOO)
def test_fresh_weights_tell_images_apart(name: str) -> None:
    with torch.no_grad():
        y = thin(name)(torch.randn(4, 3, 32, 32))
    assert y.std(0).max() > 1e-7 * y.abs().max()
    assert not torch.equal(y[0], y[1])


@pytest.mark.parametrize(
    "name", ["vgg8", "resnet8", "cnn", "fast75(width=0.25)", "vit(depth=1)", "mobilenetv2(width=0.35)"]
)
def test_a_few_steps_lower_the_loss(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.build(name, shape=(1, 8, 8), classes=4).train()
        x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % 4
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 3e-3)
        losses = []
        for _ in range(8):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
