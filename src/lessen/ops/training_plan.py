"""How to train, as data: the plan, what a step sees, and how many steps there are."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from lessen.core.errors import BadData
from lessen.core.task import Task
from lessen.ops import devices, optimizers, schedules


@dataclass(frozen=True)
class Plan:
    """How to train."""

    epochs: int
    batch: int = 128  # over all devices
    optimizer: optimizers.Name = "sgd"
    lr: float = 0.1  # at the peak
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: schedules.Name = "cosine"
    warmup: float = 0.0  # epochs
    smoothing: float = 0.0
    ema: float = 0.0  # decay of the average of weights; 0 is off
    clip: float = 0.0  # largest norm of the gradient; 0 is off
    patience: int = 0  # epochs without a better validation score; 0 is off
    precision: devices.Precision = "32"
    channels_last: bool = False
    augment: bool = True
    jitter: float = 0.0  # brightness, contrast and saturation of training images vary by this share; 0 is off
    sizes: tuple[int, ...] = ()  # sides in pixels of training images, each for an equal share of the run; () is as is
    unblended: int = 0  # last epochs without mixup and CutMix
    span: tuple[int, int] | None = None  # of the epochs, train those from the first up to, not with, the second

    @classmethod
    def of(cls, technique: Iterable[tuple[str, Any]], **more: Any) -> Plan:
        """What a technique's fields of the same names say, and more."""
        return cls(**{name: value for name, value in technique if name in cls.__dataclass_fields__}, **more)


class Batch(NamedTuple):
    """x: model inputs; y: targets as `task.loss` takes them; index: positions in train.

    epoch: how many are behind, with the fraction of the running one.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    epoch: float = 0.0


def step_count(task: Task, plan: Plan) -> int:
    """Optimizer steps of all of the plan's epochs, as its schedule and `fit`'s hooks count them."""
    return batch_count(len(task.split("train")), plan.batch, devices.world_size()) * plan.epochs


def batch_count(n: int, batch: int, devices: int = 1) -> int:
    """Batches an epoch of n samples is cut into: as equal as can be and none above `batch`.

    So every sample is used and no batch is much smaller than the others, and never one sample alone, which
    batch norm cannot take; only for that may a batch exceed `batch` by one.

    >>> batch_count(129, 128), batch_count(3, 2)
    (2, 1)
    """
    if n < 2 * devices:
        raise BadData(f"the train split has {n} samples; training needs at least {2 * devices}")
    return min(math.ceil(n / batch), n // (2 * devices))


def mix_seeds(*numbers: int) -> int:
    """A seed from several numbers, so that epoch 2 of seed 1 is not epoch 1 of seed 2."""
    return hash(numbers) % 2**63
