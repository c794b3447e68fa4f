"""Do fewer channels make the shipped file faster? Half the multiply-accumulates, in blocks of 16 or as widths fall.

    python benchmarks/channel_latency.py [RUNS]

VGG-11 in RepDistiller's form and ResNet-20, 32 px, untrained (weights do not matter for speed), are cut to half their
MACs, packed, and timed in ONNX Runtime at batch 64 with one thread, alternated run by run with the uncut file.
Exits 1 when VGG-11 with widths in multiples of 16 takes more than 0.65 of the uncut file's time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import lessen
from lessen.core.target import Target
from lessen.measure import measure
from lessen.tasks.dataset import Images
from lessen.tasks.images import ImageTask

MOST, BATCH = 0.65, 64
CASES = (("vgg11", 16), ("vgg11", 1), ("resnet20", 16), ("resnet20", 1))


def noise() -> ImageTask:
    """Ten classes of noise at 32 px: enough to pack and to time."""
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (200, 3, 32, 32), dtype=np.uint8)
    y = np.arange(200) % 10
    return ImageTask(Images(x[:100], y[:100], x[100:], y[100:], classes=tuple("abcdefghij")))


def main() -> int:
    target = Target(batches=(BATCH,), runs=int(sys.argv[1]) if len(sys.argv) > 1 else 30)
    task, worst, machine = noise(), 0.0, None
    with tempfile.TemporaryDirectory() as name:
        for model, multiple in CASES:
            with task.seeded(0):
                dense = task.build(model)
            recipe = lessen.recipe(f"ChannelPrune(ratio=0.5, of='macs removed', round_to={multiple})")
            cut, (record,) = recipe.apply(dense, task)
            folder = Path(name, model)
            if not folder.exists():
                lessen.pack(dense, task, folder)
            lessen.pack(cut, task, small := Path(name, f"{model}-{multiple}"), recipe=recipe)
            found = measure(small, task, target=target, baseline=folder, tell=lambda _: None)
            (timed,), machine = found.latency, found.machine
            widths = sorted({after for _, after in record.details["channels"].values()} - {10})
            print(
                f"{model:9} round_to={multiple:<3} MACs {record.after.macs / record.before.macs:.3f} of dense, "
                f"latency {timed.ratio:.3f} of dense (IQR {timed.ratio_iqr:.3f}, n={timed.n}), "
                f"{timed.median_ms:.1f} ms at batch {BATCH}, widths {widths}"
            )
            worst = (timed.ratio or 9.9) if (model, multiple) == CASES[0] else worst
    print(f"{machine.cpu}, {machine.threads} thread, {machine.runtime}" if machine else "nothing was measured")
    print(f"VGG-11 at half the MACs, widths in multiples of 16: {worst:.3f}, at most {MOST} is asked")
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
