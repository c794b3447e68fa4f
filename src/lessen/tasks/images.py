"""Image classification: splits held as uint8 tensors, augmented in batches on the device they are trained on."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from lessen import models
from lessen.core.errors import BadData, BadField
from lessen.core.record import Cost
from lessen.core.task import Split, SplitName, Task
from lessen.ops import augment, cost
from lessen.ops.answering import BATCH, answers
from lessen.ops.devices import device_of
from lessen.ops.unanswered import settled
from lessen.tasks.dataset import Images, Settings, draw

PREPARING = 5_000  # training images that a model may be started from


class ImageTask(Task):
    """Any image data set as a task; a function of yours may return one, also of a class with a `score` of its own.

    >>> images = Images(x, y, test_x, test_y, classes=("cat", "dog"))
    >>> ImageTask(images, Settings(crop=4, flip=True)).split("train").x.dtype
    torch.uint8
    """

    def __init__(self, images: Images, settings: Settings | None = None, text: str = "") -> None:
        settings = settings or Settings()
        _check(images, settings)
        self.settings, self.text, self.final = settings, text or str(settings), settings.final
        self.license, self.classes, self.baseline = images.license, tuple(images.classes), images.baseline
        self.shape = tuple(images.x.shape[1:])
        self._splits = _split(images, settings)
        self.mean, self.std = _moments(self._splits["train"].x)  # (c,) each, on the scale 0..1
        self.fingerprint = self._fingerprint()

    def split(self, name: SplitName) -> Split:
        return self._splits[name]

    def inputs(self, x: Tensor) -> Tensor:
        return augment.normalize(x, self.mean, self.std)

    def augment(self, x: Tensor, generator: Generator) -> Tensor:
        s = self.settings
        if s.crop:
            x = augment.crop(x, s.crop, generator, s.edge, mirror=s.flip)
        elif s.flip:
            x = augment.flip(x, generator)
        if s.jitter:
            x = augment.jitter(x, s.jitter, generator)
        if s.cutout:
            x = augment.cutout(x, s.cutout, generator, (self.mean * 255).round().to(torch.uint8))
        return self.inputs(x)

    def mix(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mixup and CutMix after `augment`: blended inputs, and targets (n, classes) that `loss` takes.

        Unchanged when both are off.
        """
        s = self.settings
        if not (s.mixup or s.cutmix):
            return x, y
        shares = nn.functional.one_hot(y, len(self.classes)).float()
        if s.mixup:
            x, a, b, weight = augment.mixup(x, shares, s.mixup, generator)
            shares = weight * a + (1 - weight) * b
        if s.cutmix:
            x, other, kept = augment.cutmix(x, s.cutmix, generator)
            shares = kept[:, None] * shares + (1 - kept)[:, None] * shares[other]
        return x, shares

    def loss(self, outputs: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of logits (n, classes) with y (n,) int64, or with shares (n, classes)."""
        return nn.functional.cross_entropy(outputs, y, label_smoothing=smoothing)

    def preprocess(self) -> dict[str, Any]:
        return {
            "input": "uint8, 0 to 255", "layout": "nchw", "shape": list(self.shape),
            "formula": "(x / 255 - mean) / std per channel, float32",
            "mean": self.mean.tolist(), "std": self.std.tolist(),
        }  # fmt: skip

    def build(self, model: str) -> nn.Module:
        built = models.build(model, shape=self.shape, classes=len(self.classes))
        return models.prepare(built, lambda: self.inputs(self._splits["train"].x[:PREPARING]))

    def copy(self, model: nn.Module) -> nn.Module:
        computed = (v for m in model.modules() for v in vars(m).values() if isinstance(v, Tensor) and not v.is_leaf)
        return copy.deepcopy(model, {id(v): v.detach().clone() for v in computed})  # torch copies leaves alone

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        python, numpy = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
                random.seed(seed)
                np.random.seed(seed % 2**32)
                torch.manual_seed(seed)
                yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)

    def cost(self, model: nn.Module) -> Cost:
        return cost.count(model, torch.zeros(1, *self.shape, device=device_of(model)))

    def evaluate(self, model: nn.Module, name: SplitName) -> float | None:
        x, y = self.split(name)
        if not len(y):
            return None
        return self.score(settled(answers(model, self, x), y), y)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps([self.settings.shared(), self.classes], sort_keys=True).encode())
        for name, (x, y) in sorted(self._splits.items()):
            digest.update(f"{name} {tuple(x.shape)}".encode())
            digest.update(x.numpy())
            digest.update(y.numpy())
        return digest.hexdigest()


def _check(images: Images, settings: Settings) -> None:
    """Errors: BadData for arrays that are no data set, BadField for settings that do not fit them."""
    if len(images.classes) < 2:
        raise BadData(f"there is nothing to tell apart: {len(images.classes)} class; give two or more")
    for part, x, y in (("training", images.x, images.y), ("test", images.test_x, images.test_y)):
        if x.ndim != 4 or x.dtype != np.uint8 or x.shape[1:] != images.x.shape[1:] or x.shape[1] not in (1, 3):
            raise BadData(f"{part} images are {x.dtype} {x.shape}; expected uint8 (n, c, h, w), all of one size")
        if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
            raise BadData(f"{part} labels are {y.dtype} {y.shape}; expected one integer for each of {len(x)} images")
        if len(y) == 0 or y.min() < 0 or y.max() >= len(images.classes):
            raise BadData(f"{part} labels must be there and lie in 0 to {len(images.classes) - 1}")
    held = settings.validation or 0
    if held >= len(images.y):
        raise BadField(f"{settings.name}.validation = {held} leaves no training image; there are {len(images.y)}")
    side = min(images.x.shape[2:])
    if settings.crop >= side:
        raise BadField(f"{settings.name}.crop = {settings.crop} is too far for images of {side} px")


def _split(images: Images, settings: Settings) -> dict[SplitName, Split]:
    x, y, seed = images.x, np.asarray(images.y, np.int64), settings.seed
    held = min(len(y) // 5, 5_000) if settings.validation is None else settings.validation
    validation, train = draw(y, 0 if settings.final else held, seed, "validation")
    if settings.limit is not None and settings.limit < len(train):
        train = train[draw(y[train], settings.limit, seed, "limit")[0]]
    absent = np.setdiff1d(np.arange(len(images.classes)), y[train])
    if len(absent):
        name = images.classes[absent[0]]
        raise BadData(f"class '{name}' has no training image left; give it more images, hold out fewer, or raise limit")
    calibration = train[draw(y[train], min(1_000, max(1, len(train) // 4)), seed, "calibration")[0]]
    test = _tensors(images.test_x.copy(), np.array(images.test_y, np.int64))  # torch wants them writable
    return {
        "train": _tensors(x[train], y[train]),
        "validation": _jittered(_tensors(x[validation], y[validation]), settings, 1),
        "test": _jittered(test, settings, 2),
        "calibration": _tensors(x[calibration], y[calibration]),
    }


def _jittered(split: Split, settings: Settings, stream: int) -> Split:
    """The same images in other light, each in one that `seed` decides."""
    if not settings.jittered or not len(split):
        return split
    light = Generator().manual_seed(2 * settings.seed + stream)
    parts = [augment.jitter(part, settings.jittered, light) for part in split.x.split(BATCH)]
    return Split(torch.cat(parts), split.y)


def _tensors(x: np.ndarray, y: np.ndarray) -> Split:
    return Split(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (c,) float32 on the scale 0..1; sums of integers in float64 are exact."""
    total = square = torch.zeros(x.shape[1], dtype=torch.float64)
    for part in x.split(512):
        values = part.transpose(0, 1).flatten(1).double()
        total, square = total + values.sum(1), square + values.square().sum(1)
    n = x.numel() / x.shape[1]
    mean, variance = total / n, square / n - (total / n) ** 2
    std = variance.clamp(min=0).sqrt()
    return (mean / 255).float(), torch.where(std > 0, std / 255, 1.0).float()
