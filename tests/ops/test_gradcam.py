"""Grad-CAM by hand: before a mean and a linear layer it is the class's weights over the number of pixels."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lessen.ops import gradcam, layers


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(3, 2),
        )  # fmt: skip
    return layers.own(model).eval()


@pytest.fixture
def x():
    return torch.randn(5, 1, 16, 16, generator=torch.Generator().manual_seed(2))


def test_by_hand(x):
    model, target = net(), torch.tensor([0, 1, 0, 1, 1])
    values, weight = model[:2](x).detach(), model[5].weight.detach()[target]
    expected = F.relu((values * weight[:, :, None, None]).sum(1) / 256)
    assert torch.allclose(gradcam.maps(model, "1", x, target), expected, atol=1e-7)


def test_a_coarser_layer_is_enlarged_bilinearly(x):
    model, target = net(), torch.zeros(5, dtype=torch.long)
    values, weight = model[:3](x).detach(), model[5].weight.detach()[target]
    small = F.relu((values * weight[:, :, None, None]).sum(1) / 64)
    expected = F.interpolate(small[:, None], (16, 16), mode="bilinear", align_corners=False)[:, 0]
    assert torch.allclose(gradcam.maps(model, "2", x, target), expected, atol=1e-7)


def test_masks_and_quantizers_are_seen_and_a_frozen_model_is_left_alone(x):
    model, target = net(), torch.zeros(5, dtype=torch.long)
    before = gradcam.maps(model, "1", x, target)
    mask = torch.ones_like(model[0].weight, dtype=torch.bool)
    mask[1:] = False
    model[0].set_mask(mask)
    model[0].wq = layers.WeightQuantizer.fitting(model[0], 2)
    model[1].oq = layers.ActivationQuantizer.covering(torch.tensor(0.0), torch.tensor(3.0), 8)
    model[3].oq = layers.ActivationQuantizer.covering(torch.tensor(0.0), torch.tensor(3.0), 8)
    model.requires_grad_(False)
    values, weight = model[:2](x).detach(), model[5].weight[0]
    expected = F.relu((values * weight[None, :, None, None]).sum(1) / 256)
    found = gradcam.maps(model, "1", x, target)
    assert torch.allclose(found, expected, atol=1e-6) and not torch.allclose(found, before)
    assert all(p.grad is None for p in model.parameters()) and not x.requires_grad


def test_sizes_and_the_deepest_layer_of_eight_by_eight(x):
    model = net()
    assert gradcam.sizes(model, x[:1]) == {"0": (16, 16), "1": (16, 16), "2": (8, 8), "3": (1, 1)}
    assert gradcam.deepest(model, gradcam.sizes(model, x[:1])) == "2"
    assert gradcam.deepest(model, gradcam.sizes(model, x[:1, :, ::2, ::2])) == "1"
    assert gradcam.deepest(model, gradcam.sizes(model, x[:1, :, ::4, ::4])) == ""
    model[2].oq = layers.ActivationQuantizer()
    assert "2.oq" not in gradcam.sizes(model, x[:1]) and gradcam.deepest(model, {"1": (8, 8), "2": (8, 8)}) == "2"


def test_attention_weights_are_no_map():
    from lessen import models

    model = layers.own(models.build("vit(depth=1, dim=16)", classes=10)).eval()
    found = gradcam.sizes(model, torch.zeros(1, 3, 32, 32))
    assert found == {"patches": (8, 8)} and gradcam.deepest(model, found) == "patches"


@pytest.mark.parametrize(
    "name", ["mobilenetv2(width=0.1)", "efficientnet_b0(width=0.1)", "densenet(depth=10)", "fast75"]
)
def test_the_zoo_has_a_layer_for_it(name):
    from lessen import models

    model = layers.own(models.build(name, classes=4)).eval()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = gradcam.maps(model, gradcam.deepest(model, gradcam.sizes(model, x)), x, torch.tensor([1]))
    assert found.shape == (1, 32, 32) and found.isfinite().all()


def test_a_model_of_two_views_is_looked_at_in_the_image_as_it_is():
    from lessen import models

    one, two = (layers.own(models.build(f"fast75(width=0.1, views={n})", classes=4)).eval() for n in (1, 2))
    two.load_state_dict(one.state_dict())
    x, target = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 0, 3])
    found = gradcam.maps(two, "stages.0.conv2", x, target)
    assert torch.allclose(found, gradcam.maps(one, "stages.0.conv2", x, target) / 2, atol=1e-7)  # the answer is a mean
    assert found.shape == (3, 32, 32) and found.max() > 0
