"""The quick CIFAR-100 net: patch-whitening stem, dirac-initialised convolutions, SiLU, after airbench
(Jordan 2024, arXiv:2404.00498) with 64, 256 and 768 channels.

Multiply-accumulates of convolutions and head for one image: 218 M at 32 px, 110 M at 24, 79 M at 20. Equal thirds
of 8.75 epochs of 50,000 images at 20, 24 and 32 px are 0.36 PFLOP, at 2 per multiply-accumulate and 3 passes.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from lessen.core.errors import BadField
from lessen.core.technique import Range
from lessen.models.blocks import Width, scaled


def whitening(images: Tensor, eps: float = 5e-4) -> Tensor:
    """Filters (8c, c, 2, 2) under which 2x2 patches of images (n, c, h, w) have the identity as second moments.

    The eigenvectors of the patches' second moments, each over the root of its eigenvalue + eps, then the same negated.
    """
    c = images.shape[1]
    patches = nn.functional.unfold(images.float(), 2).transpose(1, 2).reshape(-1, 4 * c)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = vectors.T / (values + eps).sqrt()[:, None]
    return torch.cat((filters, -filters)).reshape(-1, c, 2, 2)


def prepare(model: nn.Module, images: Tensor) -> None:
    """Set the stem's weight, in place, from some thousand training images as the model takes them (normalized)."""
    stem = getattr(model, "stem", None)
    weight = whitening(images)
    if not isinstance(stem, nn.Conv2d) or stem.weight.shape != weight.shape:
        raise BadField(f"only an untouched fast75 for {images.shape[1]} channels can be whitened; prepare it first")
    with torch.no_grad():
        stem.weight.copy_(weight)


def haar(channels: int) -> Tensor:
    """Whitening without data, (8c, c, 2, 2): each channel's mean and three differences, then the same negated.

    These are close to the principal axes of natural 2x2 patches, and orthonormal.
    """
    signs = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    filters = torch.kron(torch.eye(channels), signs)
    return torch.cat((filters, -filters)).reshape(-1, channels, 2, 2)


class Fast75(nn.Module):
    """Stem, three stages, maximum over the map, head; takes any image of the size it was built for or larger.

    `scale` = 1 / channels tames the logits. It stands before the head, where it means the same and leaves the
    logits to the head, and stays as built when channels are cut. With two views, logits are the mean of those for
    the image and its mirror image, but in training, which mirrors at random.
    """

    def __init__(self, stem: nn.Conv2d, stages: nn.Sequential, head: nn.Linear, views: int = 1) -> None:
        super().__init__()
        self.stem = stem
        self.act = nn.SiLU()
        self.stages = stages
        self.head = head
        self.scale = 1 / head.in_features
        self.views = views

    def forward(self, x: Tensor) -> Tensor:
        if self.views == 1 or self.training:
            return self._logits(x)
        both = torch.stack((x, x.flip(3)), 1).flatten(0, 1)  # side by side in the batch: weights are read once
        return self._logits(both).unflatten(0, (-1, 2)).mean(1)

    def _logits(self, x: Tensor) -> Tensor:
        x = self.stages(self.act(self.stem(x)))
        return self.head(x.amax((2, 3)) * self.scale)


def fast75(
    shape: tuple[int, ...],
    classes: int,
    *,
    depth: Annotated[int, Range("convolutions of each stage", 1, 8)] = 2,
    width: Width = 1.0,
    views: Annotated[int, Range("2: the mean of the answers to an image and its mirror image", 1, 2)] = 1,
) -> nn.Module:
    """Built without data; call `prepare` to whiten. The stem's weight and all batch norm scales are frozen."""
    channels, side = shape[0], min(shape[1:]) - 1
    if side < 1:
        raise BadField(f"fast75.shape = {shape} is too small; give at least 2 x 2 pixels")
    stem = nn.Conv2d(channels, 8 * channels, 2)
    stem.weight = nn.Parameter(haar(channels), requires_grad=False)
    stages, inn = nn.Sequential(), 8 * channels
    for base in (64, 256, 768):
        out, stage = scaled(base, width), nn.Sequential()
        for i in range(1, depth + 1):
            stage.add_module(f"conv{i}", _dirac(inn, out))
            if i == 1 and side >= 2:  # before the batch norm: a quarter of the values to normalize
                stage.add_module("pool", nn.MaxPool2d(2))
                side //= 2
            stage.add_module(f"norm{i}", _norm(out))
            stage.add_module(f"act{i}", nn.SiLU())
            inn = out
        stages.append(stage)
    head = nn.Linear(inn, classes, bias=False)
    with torch.no_grad():
        head.weight.normal_()
    return Fast75(stem, stages, head, views)


def _dirac(inn: int, out: int) -> nn.Conv2d:
    """The first `inn` outputs start as copies of the inputs."""
    conv = nn.Conv2d(inn, out, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight.data[:inn])
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    """Bias learns, scale stays 1; the running statistics follow within a few batches, as runs are short."""
    norm = nn.BatchNorm2d(channels, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm
