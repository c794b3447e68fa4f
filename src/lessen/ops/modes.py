"""Ways to run a model for a while: afterwards every layer is as it was, and what a user froze stays frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The same model in evaluation mode within the block.

    >>> with evaluating(model): y = model(x)  # doctest: +SKIP
    """
    with _kept(model):
        yield model.eval()


@contextmanager
def training(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Gives a function that puts the model in training mode, but for what its user froze.

    Frozen are modules in evaluation mode within a model that is in training mode. In a model that is in evaluation mode
    itself, as all that are loaded are, those whose parameters, and all parameters below, want no gradient.
    """
    if model.training:
        frozen = [module for module in model.modules() if not module.training]
    else:
        fixed = [m for m in model.modules() if any(True for _ in m.parameters()) and not _learns(m)]
        frozen = [part for module in fixed for part in module.modules()]

    def train() -> None:
        model.train()
        for module in frozen:
            module.training = False

    with _kept(model):
        yield train


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


@contextmanager
def _kept(model: nn.Module) -> Iterator[None]:
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
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
