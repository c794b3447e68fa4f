"""Does an int8 file answer as its simulation does? Agreement on 2,000 Fashion-MNIST test images of two trained nets.

    python benchmarks/round_trip.py [data=FOLDER]

ResNet-8 and VGG-8 (width 0.25, one Linear head, 28 px) are trained on 12,000 images, quantized, packed, and run
in ONNX Runtime.
Exits 1 when a file agrees with its simulation on fewer than 99.5 % of the images.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import lessen
from lessen.artifact.runtimes import open_session
from lessen.core.processor import name as cpu
from lessen.core.text import format_call

IMAGES, LEAST = 2_000, 0.995
TRAINING = "Finetune(epochs=3, lr=0.05, batch=64, schedule='onecycle')"


def agreement(task: lessen.Task, model: str, folder: Path) -> tuple[float, float, float]:
    """Share of images with the same class in file and simulation, and the scores of float model and int8 file."""
    with task.seeded(0):
        fresh = task.build(model)
    trained, _ = lessen.recipe(TRAINING).apply(fresh, task)
    quantized, _ = lessen.recipe("Int8()").apply(trained, task)
    packed = lessen.pack(quantized, task, folder, recipe="Int8()")
    x, y = task.split("test")
    inputs = task.inputs(x[:IMAGES])
    with torch.inference_mode():
        simulated = torch.cat([quantized.eval()(part) for part in inputs.split(250)]).numpy()
    session = open_session(packed.runnable)
    found = np.concatenate([session.run(part.numpy()) for part in inputs.split(250)])
    same = float((found.argmax(1) == simulated.argmax(1)).mean())
    right = float((found.argmax(1) == y[:IMAGES].numpy()).mean())
    return same, task.evaluate(trained, "test") or 0.0, right


def main() -> int:
    arguments = dict(a.split("=", 1) for a in sys.argv[1:])
    task = lessen.task(format_call("fashion", {"limit": 12_000, **arguments}))
    print(f"{cpu()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    worst = 1.0
    with tempfile.TemporaryDirectory() as folder:
        for model in ("resnet8", "vgg8(width=0.25)"):
            same, float_score, int8_score = agreement(task, model, Path(folder) / model.partition("(")[0])
            print(f"{model}: same class on {same:.2%} of {IMAGES} images (at least {LEAST:.1%}); right: float32 "
                  f"{float_score:.2%} of all test images, int8 file {int8_score:.2%} of these")  # fmt: skip
            worst = min(worst, same)
    return int(worst < LEAST)


if __name__ == "__main__":
    sys.exit(main())
