"""What minimal filtering saves in training, layer by layer of fast75: time of the direct convolution / ours.

    python benchmarks/convolutions.py

Forward and both gradients of a batch, channels last, one thread, in 32-bit floats and, where the CPU has wide
instructions for it, in bfloat16. The two take turns, so that a noisy machine disturbs both; shown is the median of
seven turns' ratios of processor time, with its quartiles, and the largest difference of the outputs and gradients
relative to the largest value. Behind it the same for a step of fast75 whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from lessen import models
from lessen.core.processor import name as cpu
from lessen.ops import devices, winograd

TURNS = 7
LAYERS = (
    (64, 256, 9), (64, 256, 15), (256, 256, 4), (256, 256, 7),
    (256, 768, 5), (256, 768, 7), (768, 768, 2), (768, 768, 3),
)  # channels in and out, pixels # fmt: skip
NARROW = ((256, 256, 4), (256, 768, 4), (256, 768, 5), (768, 768, 2), (768, 768, 3))


def floats(narrow: bool) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if narrow else nullcontext()


def turns(step: Callable[[], object], narrow: bool) -> np.ndarray:
    """Processor seconds (turns, 2) of a step, direct and by minimal filtering; narrow: in bfloat16."""
    found = []
    for _ in range(TURNS + 1):
        spent = []
        for context in (nullcontext(), winograd.Quick()):
            begun = time.process_time()
            with floats(narrow), context:
                step()
            spent.append(time.process_time() - begun)
        found.append(spent)
    return np.array(found[1:])  # the first turn warms up


def layer(inn: int, out: int, side: int, narrow: bool, batch: int = 128) -> tuple[np.ndarray, float]:
    """Times of one layer's step, and the largest difference."""
    torch.manual_seed(0)
    last = torch.channels_last
    x = torch.randn(batch, inn, side, side).contiguous(memory_format=last).requires_grad_()
    conv = nn.Conv2d(inn, out, 3, padding=1, bias=False).to(memory_format=last)
    upstream = torch.randn(batch, out, side, side).contiguous(memory_format=last)

    def step() -> tuple[Tensor, ...]:
        y = conv(x)
        return y.detach(), *torch.autograd.grad(y, (x, conv.weight), upstream.to(y.dtype))

    with floats(narrow):
        direct = step()
        with winograd.Quick():
            ours = step()
    worst = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(direct, ours, strict=True))
    return turns(step, narrow), worst


def whole(side: int, narrow: bool, batch: int = 128) -> np.ndarray:
    """Times of a step of fast75 without the optimizer's."""
    torch.manual_seed(0)
    model = models.build("fast75", shape=(3, 32, 32), classes=100).to(memory_format=torch.channels_last)
    x, y = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last), torch.arange(batch) % 100
    return turns(lambda: nn.functional.cross_entropy(model(x), y).backward(), narrow)


def told(name: str, spent: np.ndarray, more: str = "") -> None:
    low, middle, high = np.quantile(spent[:, 0] / spent[:, 1], (0.25, 0.5, 0.75))
    direct, ours = 1000 * np.median(spent, 0)
    print(f"{name:24} {direct:7.0f} ms {ours:7.0f} ms  {middle:5.2f} ({low:.2f} to {high:.2f}){more}", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{cpu()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, n = {TURNS} turns")
    for narrow in (False,) if devices.emulated("bf16") else (False, True):
        name = "bfloat16" if narrow else "float32"
        print(f"{name:24}     direct       ours  times faster (quartiles)  largest difference")
        for inn, out, side in NARROW if narrow else LAYERS:
            spent, worst = layer(inn, out, side, narrow)
            told(f"{inn} -> {out} at {side} x {side}", spent, f"  {worst:.0e}")
        for side in (20, 24, 32):
            told(f"fast75 at {side} px", whole(side, narrow))


if __name__ == "__main__":
    main()
