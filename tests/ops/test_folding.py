from __future__ import annotations

import copy

import torch
from torch import nn

from lessen.ops import layers
from lessen.ops.folding import fold_norms


def net(bias: bool, affine: bool = True) -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=bias), nn.BatchNorm2d(6, affine=affine), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )
    with torch.no_grad():
        norm = model[1]
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        if affine:
            norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, -0.1, 0.0, 3.0]))
            norm.bias.normal_()
    return layers.own(model).eval()


def test_folding_keeps_outputs():
    x = torch.randn(4, 3, 8, 8)
    for bias in (False, True):
        for affine in (False, True):
            model = net(bias, affine)
            folded = copy.deepcopy(model)
            fold_norms(folded)
            assert isinstance(folded[1], nn.Identity)
            assert torch.allclose(folded(x), model(x), atol=1e-5)


def test_integers_keep_their_size_and_take_gammas_sign():
    model = net(False)
    conv = model[0]
    conv.wq = layers.WeightQuantizer.fitting(conv, bits=8)
    x, stored = torch.randn(4, 3, 8, 8), conv.wq.stored(conv.weight)
    expected = model(x)
    gain = fold_norms(model)["0"]
    assert torch.sign(gain).tolist() == [1, -1, 1, -1, 0, 1]
    folded = stored.folded(gain)
    assert torch.equal(folded.values.float(), stored.values * torch.sign(gain).reshape(-1, 1, 1, 1))
    y = nn.functional.conv2d(x, folded.real(), conv.bias)
    assert torch.allclose(model[3](torch.relu(y)), expected, atol=1e-5)
    assert bool((folded.scale > 0).all())


def test_the_output_quantizer_moves_to_the_convolution():
    model = net(True)
    model[2] = nn.Identity()
    model[1].oq = layers.ActivationQuantizer.covering(torch.tensor(-4.0), torch.tensor(4.0))
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    fold_norms(model)
    assert model[0].oq is not None
    assert torch.allclose(model(x), expected, atol=0.05)
