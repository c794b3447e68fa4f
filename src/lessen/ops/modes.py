"""Evaluation mode for a while: afterwards every layer is as it was, those that a user had frozen included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The same model in evaluation mode within the block.

    >>> with evaluating(model): y = model(x)  # doctest: +SKIP
    """
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, flag in flags:
            module.training = flag
