"""Ways to run a model for a while; afterwards everything is as it was, layers that a user had frozen included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


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


@contextmanager
def in_parts() -> Iterator[None]:
    """Within the block torch's fused attention and encoder layers run as their products, which can be counted."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)
