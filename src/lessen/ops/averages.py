"""An exponential moving average of a model's weights (Polyak & Juditsky 1992; warm-up as in TensorFlow)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """Follows all floats of the model's state, also those that a module puts anew; whole numbers are left as they are.

    After its n-th update the decay is min(decay, (1 + n) / (10 + n)): a short run is not held back by its start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay, self.updates = model, decay, 0
        self.mean = [v.clone() for v in self.live]

    @property
    def live(self) -> list[Tensor]:
        """The model's own tensors, once each where they stand twice."""
        state = {id(v): v for v in self.model.state_dict(keep_vars=True).values()}
        return [v.detach() for v in state.values() if v.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """mean <- decay * mean + (1 - decay) * live."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.mean, self.live, 1 - decay)  # type: ignore[attr-defined]

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within it the model holds the averages."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's tensors and the averages."""
        for live, mean in zip(self.live, self.mean, strict=True):
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "mean": self.mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        with torch.no_grad():
            for mean, stored in zip(self.mean, state["mean"], strict=True):
                mean.copy_(stored)


def clones(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state."""
    return {k: v.detach().clone() for k, v in model.state_dict().items()}
