"""What there is in the zoo: name -> file, function, the arguments that the name fixes, and its published form."""

from __future__ import annotations

from typing import Any, NamedTuple


class Entry(NamedTuple):
    """`lessen.models.<file>.<function>(shape, classes, **fixed, **given)`."""

    file: str
    function: str
    fixed: dict[str, Any]
    doc: str


def _vgg(depth: int) -> Entry:
    return Entry("vgg", "vgg", {"depth": depth}, f"VGG-{depth} with batch norm, one Linear head, RepDistiller's form")


def _resnet(depth: int) -> Entry:
    return Entry(
        "resnet", "resnet", {"depth": depth}, f"CIFAR ResNet-{depth}, 1x1 projection shortcuts, RepDistiller's form"
    )


def _times_four(depth: int) -> Entry:
    fixed = {"depth": depth, "stem": 32, "stages": (64, 128, 256)}
    return Entry("resnet", "resnet", fixed, f"CIFAR ResNet-{depth} with four times the channels, RepDistiller's form")


def _wrn(depth: int, widen: int) -> Entry:
    fixed = {"depth": depth, "widen": widen}
    return Entry("wide_resnet", "wrn", fixed, f"Wide ResNet-{depth}-{widen} (Zagoruyko & Komodakis 2016)")


def _resnet32px(depth: int, blocks: tuple[int, ...], bottleneck: bool) -> Entry:
    fixed = {"blocks": blocks, "bottleneck": bottleneck}
    return Entry("resnet", "resnet32px", fixed, f"ResNet-{depth} with a 3x3 stem for 32 px, weiaicunzai's form")


ZOO: dict[str, Entry] = {
    "vgg": Entry("vgg", "vgg", {}, "VGG with batch norm, depth 8, 11, 13, 16 or 19; other heads and pools by argument"),
    **{f"vgg{d}": _vgg(d) for d in (8, 11, 13, 16, 19)},
    "resnet": Entry("resnet", "resnet", {}, "CIFAR ResNet of depth 6n + 2 (He et al. 2016), RepDistiller's form"),
    **{f"resnet{d}": _resnet(d) for d in (8, 20, 32, 44, 56, 110)},
    "resnet8x4": _times_four(8),
    "resnet32x4": _times_four(32),
    "resnet18": _resnet32px(18, (2, 2, 2, 2), False),
    "resnet34": _resnet32px(34, (3, 4, 6, 3), False),
    "resnet50": _resnet32px(50, (3, 4, 6, 3), True),
    "wrn": Entry("wide_resnet", "wrn", {}, "Wide ResNet of depth 6n + 4, channels times `widen`, RepDistiller's form"),
    **{f"wrn{d}_{k}": _wrn(d, k) for d, k in ((16, 1), (16, 2), (40, 1), (40, 2), (28, 10))},
    "mobilenetv2": Entry("mobilenet", "mobilenetv2", {}, "MobileNetV2 with strides for 32 px, chenyaofo's form"),
    "efficientnet_b0": Entry(
        "efficientnet", "efficientnet", {}, "EfficientNet-B0 (Tan & Le 2019) with stem and first stage at stride 1"
    ),
    "densenet": Entry("densenet", "densenet", {}, "DenseNet-BC-100-12 (Huang et al. 2017); depth 6n + 4 and growth"),
    "vit": Entry("vit", "vit", {}, "ViT-Lite-7/4 (Hassani et al. 2021) with averaged tokens instead of a class token"),
    "cnn": Entry("cnn", "cnn", {}, "three 3x3 convolutions of 32, 64, 128 channels; 94 k parameters for ten digits"),
    "fast75": Entry(
        "fast75", "fast75", {}, "64-256-768 whitened, dirac-initialised convnet after airbench (Jordan 2024)"
    ),
}
