"""Parameters and multiply-accumulates against public definitions, all for 3 x 32 x 32.

Sources: RepDistiller, weiaicunzai (pytorch-cifar100) and chenyaofo (pytorch-cifar-models) are the counts that these
repositories' own code gives, which agree with the rounded ones in their READMEs; others are named in place.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lessen import models
from lessen.ops.cost import macs

SLIM = "pools=(1, 2, 3, 4, 5), head=(512, 512)"  # chenyaofo's VGG
WIDE = "pools=(1, 2, 3, 4, 5), head=(4096, 4096)"  # weiaicunzai's VGG

REPDISTILLER = {
    "vgg8": 3_965_028, "vgg11": 9_277_284, "vgg13": 9_462_180, "vgg16": 14_774_436, "vgg19": 20_086_692,
    "resnet8": 83_892, "resnet(depth=14)": 181_108, "resnet20": 278_324, "resnet32": 472_756, "resnet44": 667_188,
    "resnet56": 861_620, "resnet110": 1_736_564, "resnet8x4": 1_233_540, "resnet32x4": 7_433_860,
    "wrn16_1": 180_916, "wrn16_2": 703_284, "wrn40_1": 569_780, "wrn40_2": 2_255_156, "wrn28_10": 36_536_884,
}  # fmt: skip
CHENYAOFO = {
    f"vgg11({SLIM})": 9_802_596, f"vgg13({SLIM})": 9_987_492, f"vgg16({SLIM})": 15_299_748,
    f"vgg19({SLIM})": 20_612_004, "mobilenetv2": 2_351_972, "mobilenetv2(width=0.5)": 815_780,
    "mobilenetv2(width=0.75)": 1_483_524, "mobilenetv2(width=1.4)": 4_495_076,
}  # fmt: skip
WEIAICUNZAI = {
    f"vgg11({WIDE})": 28_518_244, f"vgg16({WIDE})": 34_015_396,
    "resnet18": 11_220_132, "resnet34": 21_328_292, "resnet50": 23_705_252,
}  # fmt: skip


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("text", "count"), [*REPDISTILLER.items(), *CHENYAOFO.items(), *WEIAICUNZAI.items()])
def test_cifar100_parameters_equal_the_public_definition(text: str, count: int) -> None:
    with torch.device("meta"):  # shapes without values
        assert parameters(models.build(text)) == count


@pytest.mark.parametrize(
    ("text", "classes", "count"),
    [
        ("efficientnet_b0", 1000, 5_288_548),  # torchvision's documented counts of B0, B1 and B2
        ("efficientnet_b0(depth=1.1)", 1000, 7_794_184),
        ("efficientnet_b0(width=1.1, depth=1.2)", 1000, 9_109_994),
        ("mobilenetv2", 1000, 3_504_872),  # torchvision
        ("densenet", 10, 769_162),  # bamos/densenet.pytorch, DenseNet-BC-100-12
        ("vit", 10, 3_716_874 - 2 * 256),  # ViT-Lite-7/4 (3.72 M) less the class token and its position
    ],
)
def test_other_parameters_equal_the_public_definition(text: str, classes: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters(models.build(text, classes=classes)) == count


def test_resnet_by_hand() -> None:
    n, count = 3, 3 * 16 * 9 + 2 * 16  # resnet20: stem and its norm
    for inn, out in ((16, 16), (16, 32), (32, 64)):
        count += 9 * inn * out + (2 * n - 1) * 9 * out * out + 2 * n * 2 * out
        count += 0 if inn == out else inn * out + 2 * out
    assert parameters(models.build("resnet20")) == count + 64 * 100 + 100


def test_densenet_by_hand() -> None:
    growth, count, inn = 12, 3 * 24 * 9, 24
    for block in range(3):
        for _ in range(16):
            count += 2 * inn + inn * 48 + 2 * 48 + 48 * growth * 9
            inn += growth
        if block < 2:
            count += 2 * inn + inn * (inn // 2)
            inn //= 2
    assert parameters(models.build("densenet")) == count + 2 * inn + inn * 100 + 100 == 800_032


def test_vit_lite_by_hand() -> None:
    d = 256
    block = 2 * 2 * d + 3 * d * d + (d * d + d) + (2 * d * d + 2 * d) + (2 * d * d + d)
    with_class_token = 7 * block + (48 * d + d) + d + 65 * d + 2 * d + 10 * d + 10
    assert with_class_token == 3_716_874


def test_digits_cnn_has_about_a_hundred_thousand() -> None:
    by_hand = 9 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 2 * (32 + 64 + 128) + 128 * 10 + 10
    assert parameters(models.build("cnn", shape=(1, 8, 8), classes=10)) == by_hand == 94_186


@pytest.mark.parametrize(
    ("text", "millions"),  # "#MAdds(M)" for CIFAR-100 in chenyaofo's README
    [
        ("resnet20", 40.82),
        ("resnet56", 125.75),
        (f"vgg11({SLIM})", 153.34),
        (f"vgg16({SLIM})", 313.77),
        ("mobilenetv2", 88.09),
        ("mobilenetv2(width=0.5)", 28.08),
    ],
)
def test_multiply_accumulates_equal_the_published(text: str, millions: float) -> None:
    with torch.device("meta"):
        assert macs(models.build(text), torch.zeros(1, 3, 32, 32)) / 1e6 == pytest.approx(millions, rel=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        *("vgg11", "resnet20", "resnet8x4", "resnet18", "resnet50", "wrn16_2"),
        *("mobilenetv2", "efficientnet_b0", "densenet", "vit", "cnn", "fast75"),
    ],
)
def test_width_scales_every_family(name: str) -> None:
    with torch.device("meta"):
        full, half = (parameters(models.build(f"{name}(width={w})")) for w in (1.0, 0.5))
    assert 0.2 < half / full < 0.55  # quadratic, but for heads and the parts that a paper keeps wide


@pytest.mark.parametrize(
    ("text", "deeper"),
    [
        ("resnet18", "resnet18(depth=1.5)"),
        ("mobilenetv2", "mobilenetv2(depth=1.5)"),
        ("efficientnet_b0", "efficientnet_b0(depth=1.5)"),
        ("densenet(depth=22)", "densenet(depth=40)"),
        ("wrn(depth=10)", "wrn(depth=16)"),
        ("vit(depth=2)", "vit(depth=3)"),
        ("cnn", "cnn(depth=2)"),
        ("fast75", "fast75(depth=3)"),
        ("vgg(depth=8)", "vgg(depth=11)"),
    ],
)
def test_depth_adds_weighted_layers(text: str, deeper: str) -> None:
    def layers(text: str) -> int:
        with torch.device("meta"):
            return sum(isinstance(m, nn.Conv2d | nn.Linear) for m in models.build(text).modules())

    assert layers(deeper) > layers(text)
