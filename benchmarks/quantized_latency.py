"""What do fewer bits cost at run time? Files of one VGG-11 in every encoding, each against its int8 file.

    python benchmarks/quantized_latency.py [RUNS]

VGG-11 in RepDistiller's form, 32 px, 100 classes, untrained but for the statistics of its batch norms (values do not
matter for speed), exported and packed by each recipe, and timed in ONNX Runtime at batch 1 with one thread, alternated
run by run with the int8 file. Exits 1 when a 4-bit file takes more than 0.14 of the float file's bytes or a binary one
more than 0.06, or when either with 8-bit activations takes more than 1.1 of the int8 file's time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

import lessen
from lessen.artifact import forms
from lessen.artifact.export import export
from lessen.artifact.runtimes import Session, open_session
from lessen.core.processor import name as cpu
from lessen.measure.quiet import quiet_machine
from lessen.tasks.dataset import Images
from lessen.tasks.images import ImageTask

MOST_BYTES, MOST_TIME = {"Int4": 0.14, "Binary": 0.06}, 1.1
TIMED = ("Int4()", "Int4(levels='log')", "Binary(epochs=0, activations=8)")
RECIPES = (
    "Int8()", "Int4()", "Int4(levels='log')", "Int4(activations=4)", "Int4(group=64, activations='float')",
    "Int4(activations='float')",
    "Int2()", "Float16()", "BFloat16()", "DynamicInt8()", "Ternary(epochs=0, activations=8)",
    "Binary(epochs=0)", "Binary(epochs=0, activations=8)", "Binary(epochs=0, activations=1)",
)  # fmt: skip


def noise() -> ImageTask:
    """A hundred classes of noise at 32 px: enough to calibrate on."""
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (200, 3, 32, 32), dtype=np.uint8), np.arange(200) % 100
    return ImageTask(Images(x, y, x[:100], y[:100], classes=tuple(map(str, range(100)))))


def settled(task: ImageTask) -> nn.Module:
    """The net with batch norm's statistics of the data, as after training."""
    with task.seeded(0):
        model = task.build("vgg11")
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None
    with torch.no_grad():
        model.train()(task.inputs(task.split("train").x[:64]))
    return model.eval()


def write(model: nn.Module, task: ImageTask, file: Path) -> Path:
    """The model's file with every weight in its smallest form."""
    proto = export(task.copy(model), task.inputs(task.split("train").x[:1])).proto
    forms.shrink(proto)
    onnx.save(proto, file)
    return file


def ratios(session: Session, other: Session, x: np.ndarray, runs: int) -> np.ndarray:
    """Times session / other, one a run; which goes first changes from run to run."""
    for one in (session, other) * 3:
        one.run(x)
    found = []
    for i in range(runs):
        taken: dict[Session, float] = {}
        for one in (session, other) if i % 2 else (other, session):
            start = time.perf_counter()
            one.run(x)
            taken[one] = time.perf_counter() - start
        found.append(taken[session] / taken[other])
    return np.array(found)


def opened(file: Path) -> tuple[Session, float]:
    start = time.perf_counter()
    return open_session([file]), time.perf_counter() - start


def main() -> int:
    runs, task = int(sys.argv[1]) if len(sys.argv) > 1 else 30, noise()
    model, x, ok = settled(task), task.inputs(task.split("train").x[:1]).numpy(), True
    print(f"{cpu()}, onnxruntime {version('onnxruntime')}, 1 thread, batch 1; "
          f"time against int8: median (quartiles) of n = {runs} alternated pairs")  # fmt: skip
    with tempfile.TemporaryDirectory() as name, quiet_machine("timing quantized files"):
        files = {"float32": write(model, task, Path(name, "float32.onnx"))}
        for i, text in enumerate(RECIPES):
            changed, _ = lessen.recipe(text).apply(model, task)
            files[text] = write(changed, task, Path(name, f"{i}.onnx"))
        int8, _ = opened(files["Int8()"])
        for text, file in files.items():
            session, seconds = opened(file)
            low, middle, high = np.percentile(ratios(session, int8, x, runs), (25, 50, 75))
            size = file.stat().st_size / files["float32"].stat().st_size
            kernels = {k: n for k, n in session.operators().items() if "Conv" in k or "Gemm" in k or "MatMul" in k}
            print(f"{text:36} bytes {size:.3f} of float32, time {middle:.2f} ({low:.2f} to {high:.2f}) of int8, "
                  f"loads in {seconds:.2f} s, runs {kernels}", flush=True)  # fmt: skip
            ok &= size <= MOST_BYTES.get(text.partition("(")[0], 1.0) and (middle <= MOST_TIME or text not in TIMED)
    print(f"4 bits and 1: at most {MOST_BYTES} of the bytes, and {MOST_TIME} of int8's time: {'yes' if ok else 'NO'}")
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
