"""A model's answers to raw samples, in evaluation mode, a batch at a time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lessen.core.task import Task
from lessen.ops.devices import device_of
from lessen.ops.modes import evaluating

BATCH = 256


def answers(model: nn.Module, task: Task, x: Tensor) -> Tensor:
    """Logits (n, classes), on the CPU, of samples as a split holds them; (0, 1) of none."""
    if not len(x):
        return torch.zeros(0, 1)
    device = device_of(model)
    with evaluating(model), torch.inference_mode():
        return torch.cat([model(task.inputs(part.to(device))).cpu() for part in x.split(BATCH)])
