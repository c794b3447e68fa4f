"""Shared by all rooms: the smallest real task and one briefly trained model on it."""

from __future__ import annotations

import pytest
import torch

from lessen import catalog
from lessen.tasks import task as find

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits():
    """The embedded task: 1,797 scans of digits."""
    return find("digits")


@pytest.fixture(scope="session")
def trained(digits):
    """A small convolutional net with batch norm, trained for six epochs; do not edit it, techniques copy."""
    with digits.seeded(0):
        fresh = digits.build("resnet8(width=0.5)")
    model, _ = catalog.recipe("Finetune(epochs=6, lr=0.05, batch=32)").apply(fresh, digits)
    return model.eval()


@pytest.fixture(scope="session")
def baseline(digits, trained, tmp_path_factory):
    """`trained`, packed."""
    from lessen.artifact import pack

    return pack(trained, digits, tmp_path_factory.mktemp("artifacts") / "baseline")
