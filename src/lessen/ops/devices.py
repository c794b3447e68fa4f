"""Where training runs: the devices that torchrun names, else one GPU, else the CPU. And where a model lies."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from lessen.core.errors import Refused

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["32", "bf16", "16"]
MIXED: dict[Precision, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def connect(precision: Precision) -> Fabric:
    """Fabric over the devices of this run. A CPU that emulates bfloat16 (`emulated`) gets float32 in its place.

    Errors: Refused for 16-bit floats on a CPU.
    """
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if precision == "16" and accelerator == "cpu":
        raise Refused("precision='16' needs a GPU; use precision='bf16' or '32' on a CPU")
    precision = "32" if emulated(precision) else precision
    world, local = world_size(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    fabric = Fabric(
        accelerator=accelerator, devices=local, num_nodes=world // local, precision=MIXED[precision],
        strategy="ddp" if world > 1 else "auto",
    )  # fmt: skip
    fabric.launch()
    return fabric


def emulated(precision: Precision) -> bool:
    """Whether bfloat16 is asked of a CPU that has no wide instructions for it, where it is many times slower."""
    if precision != "bf16" or torch.cuda.is_available():
        return False
    return torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters lie; the CPU for one that has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def world_size() -> int:
    """Over how many devices one training run is spread."""
    return int(os.environ.get("WORLD_SIZE", 1))
