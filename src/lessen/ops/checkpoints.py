"""The state of a training run as one file that is either whole or the one before it.

The file's name is a digest of everything the run started from, so a folder may hold several runs and
none is ever continued by another.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

SECONDS = 5.0  # at least this long between two checkpoints, so that short epochs do not wait for the disk


class Checkpoint:
    """`last state + best weights` of one run in `folder`; without a folder it keeps nothing."""

    def __init__(self, folder: Path | None, model: nn.Module, *origin: object) -> None:
        self.path = None if folder is None else folder / f"training-{_digest(model, origin)}.pt"
        self.saved = time.monotonic()

    def due(self) -> bool:
        """Whether the last checkpoint is old enough."""
        return self.path is not None and time.monotonic() - self.saved >= SECONDS

    def save(self, state: dict[str, Any]) -> str:
        """Write under a temporary name, then rename. Returns why it could not, "" when it could."""
        if self.path is None:
            return ""
        memory = io.BytesIO()
        torch.save(state, memory)
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(memory.getbuffer())
            part.replace(self.path)
        except OSError as e:
            part.unlink(missing_ok=True)
            return f"no checkpoint could be written: {e}"
        finally:
            self.saved = time.monotonic()
        return ""

    def load(self) -> dict[str, Any] | None:
        """The state to go on from; None when there is none that can be read."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None  # a damaged disk: the run starts over and overwrites it


def weights_digest(*models: nn.Module) -> str:
    """Hex digits over every tensor of the models' states."""
    found = hashlib.sha256()
    for model in models:
        for name, value in model.state_dict().items():
            found.update(f"{name}{tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _digest(model: nn.Module, origin: tuple[object, ...]) -> str:
    found = hashlib.sha256(repr((origin, weights_digest(model))).encode())
    found.update(torch.get_rng_state().numpy().tobytes())
    return found.hexdigest()[:16]
