"""The task of quarters and a net that knows it."""

from __future__ import annotations

import numpy as np
import pytest
from quarters import images
from torch import nn

from lessen.core.run import Run
from lessen.ops import train
from lessen.tasks.dataset import Settings
from lessen.tasks.images import ImageTask


@pytest.fixture(scope="module")
def task() -> ImageTask:
    return ImageTask(images(np.arange(160) % 4), Settings())


@pytest.fixture(scope="module")
def teacher(task: ImageTask) -> nn.Module:
    with task.seeded(0):
        model = task.build("cnn(width=0.25)")
        return train.fit(model, task, train.Plan(epochs=4, batch=16, lr=0.05), Run())
