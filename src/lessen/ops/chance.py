"""The state of every generator that a model may draw from while it trains, as values that a checkpoint may hold:
torch's, and Python's and NumPy's, from which users' own layers often draw (stochastic depth).
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def state(device: torch.device) -> dict[str, Any]:
    """Of this moment; the device's own where it is a GPU."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if device.type == "cuda" else None,
        "python": (version, torch.tensor(words), gauss),
        "numpy": (name, torch.from_numpy(np.array(keys, np.int64)), *rest),
    }


def restore(kept: dict[str, Any]) -> None:
    """Go on from what `state` gave."""
    version, words, gauss = kept["python"]
    name, keys, *rest = kept["numpy"]
    random.setstate((version, tuple(words.tolist()), gauss))
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(kept["torch"])
    if kept["cuda"] is not None:
        torch.cuda.set_rng_state(kept["cuda"])
