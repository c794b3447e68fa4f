"""A scan that starts each pass at the changed layer costs at most 0.6 of whole passes, with identical answers; a quick
scan costs about a tenth of a full one, and its ranking is close to the full one's.

The first on ResNet-20 and VGG-8 with 64 images of noise, 32 px, one thread: time does not depend on what the weights
are. The second on ResNet-8 trained for six epochs on digits, or on the task that is given: 0.10 to 0.12 with 5,000
Fashion-MNIST images, but 0.5 to 0.7 on digits, whose scan is so short that planning and ranking dominate. Exits with 1
above the bound.

    python benchmarks/sensitivity.py
    python benchmarks/sensitivity.py "fashion(limit=6000)"
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

import lessen
from lessen import models
from lessen.analyze.ranks import spearman
from lessen.inspect import sensitivity
from lessen.inspect.scan import scan
from lessen.inspect.sites import sites
from lessen.ops.layers import own

BOUND, RATIOS, RUNS = 0.6, (0.5, 0.8), 3

torch.set_num_threads(1)
x, y = torch.randint(0, 256, (64, 3, 32, 32), generator=torch.Generator().manual_seed(0)), torch.arange(64) % 100


def inputs(images: torch.Tensor) -> torch.Tensor:
    return (images.float() - 128) / 64


def seconds(model: torch.nn.Module, kind: str, cached: bool) -> tuple[float, np.ndarray]:
    """CPU time of one scan from its start, and its answers."""
    start = time.process_time()
    found, _ = sites(model, kind, inputs(x[:2]))
    answers = scan(model, inputs, x, y, found, RATIOS, cached=cached)
    return time.process_time() - start, answers.changed


worst = 0.0
for name in ("resnet20", "vgg8(width=0.5)"):
    torch.manual_seed(0)
    model = own(models.build(name)).eval()
    for kind in ("prune", "channels", "rank"):
        runs = [[seconds(model, kind, cached) for cached in (True, False)] for _ in range(RUNS)]
        if not all(np.array_equal(some, whole) for (_, some), (_, whole) in runs):
            sys.exit(f"{name}, {kind}: the answers differ")
        short, whole = (np.median([run[i][0] for run in runs]) for i in (0, 1))
        ratio = float(np.median([a / b for (a, _), (b, _) in runs]))
        worst = max(worst, ratio)
        print(f"{name}, {kind}: {short:.2f} s against {whole:.2f} s, ratio {ratio:.3f}, identical answers")
print(f"worst ratio {worst:.3f} (bound {BOUND}), CPU time, medians of n = {RUNS} alternated pairs")

task = lessen.task(sys.argv[1] if len(sys.argv) > 1 else "digits")
with task.seeded(0):
    fresh = task.build("resnet8")
trained, _ = lessen.recipe("Finetune(epochs=6, lr=0.05, batch=32)").apply(fresh, task)
for kind in ("prune", "channels", "rank"):
    ratios = []
    for _ in range(RUNS):
        scans, times = [], []
        for quick in (True, False):
            start = time.process_time()
            scans += sensitivity(trained, task, (kind,), quick=quick).scans
            times.append(time.process_time() - start)
        ratios.append(times[0] / times[1])
    few, many = scans
    agree = spearman([row.drop for row in few.rows], [row.drop for row in many.rows])
    work = few.passes * few.images / (many.passes * many.images)
    print(
        f"quick, {kind}, {many.images} images: {work:.3f} of the work, ratio of CPU time {np.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}, n = {RUNS}); its ranking and the full one: {agree}; "
        f"it said {few.agreement:.2f}, at least {few.agreement_low:.2f} in 95 % of draws"
    )
sys.exit(worst > BOUND)
