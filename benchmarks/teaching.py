"""What a lesson costs: a taught step against the student's own step plus its teacher's forward pass.

    python benchmarks/teaching.py

A ResNet-20 teaches one of half its width; 32-bit floats, one thread, augmented batches, so that the teacher runs in
every step. Five programs take turns: a plain step (Finetune), the teacher's forward pass alone, and steps of
LogitDistill, the same on standardized logits, and DecoupledDistill, each a whole technique, whose epochs have one
step. So a noisy machine disturbs all alike; a round's ratio is taught step / (plain step + forward pass), of
processor time, which other programs hardly touch; the wall clock's is shown too. The first rounds, in which all warm
up, are left out. Exits 1 when a median ratio is above 1.1.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"  # each program has a thread of its own

import numpy as np
import torch

from lessen import models
from lessen.core.processor import name as cpu
from lessen.core.run import Run
from lessen.core.technique import Technique
from lessen.distill.decoupled_distill import DecoupledDistill
from lessen.distill.finetune import Finetune
from lessen.distill.logit_distill import LogitDistill
from lessen.measure.machine import cpus
from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask

BATCH, ROUNDS, WARM, MOST = 128, 31, 3, 1.10
TAUGHT: dict[str, Technique] = {
    "LogitDistill": LogitDistill(epochs=ROUNDS, batch=BATCH),
    "standardized": LogitDistill(epochs=ROUNDS, batch=BATCH, standardize=True),
    "DecoupledDistill": DecoupledDistill(epochs=ROUNDS, batch=BATCH),
}


class Turns:
    """Programs that run one at a time, a step each in turn; `times[name]` is (steps, 2), processor and wall seconds."""

    def __init__(self, programs: dict[str, Callable[[Callable[[], None]], None]]) -> None:
        self.programs, self.now, self.free = programs, 0, threading.Condition()
        self.times: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}

    def play(self) -> None:
        threads = [threading.Thread(target=self._run, args=(i, name)) for i, name in enumerate(self.programs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, place: int, name: str) -> None:
        begun = self._wait(place)

        def step_done() -> None:
            nonlocal begun
            end = _now()
            self.times[name].append((end[0] - begun[0], end[1] - begun[1]))
            self._pass_on()
            begun = self._wait(place)

        self.programs[name](step_done)
        self._pass_on()

    def _wait(self, place: int) -> tuple[float, float]:
        with self.free:
            self.free.wait_for(lambda: self.now % len(self.programs) == place)
        return _now()

    def _pass_on(self) -> None:
        with self.free:
            self.now += 1
            self.free.notify_all()


def _now() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def measure(task: ImageTask) -> dict[str, np.ndarray]:
    """Seconds of each program's steps, (rounds, 2)."""
    torch.manual_seed(0)
    teacher, student = models.build("resnet20", classes=10).eval(), models.build("resnet20(width=0.5)", classes=10)

    def technique(value: Technique) -> Callable[[Callable[[], None]], None]:
        def steps(step_done: Callable[[], None]) -> None:
            run = Run(origin=teacher, progress=lambda share, text: step_done())
            value._apply(task.copy(student), task, run)  # apply would count costs before and after

        return steps

    def forward(step_done: Callable[[], None]) -> None:
        own, x = task.copy(teacher), task.inputs(task.split("train").x)
        for _ in range(ROUNDS):
            with torch.inference_mode():
                own(x)
            step_done()

    plain = Finetune(epochs=ROUNDS, batch=BATCH, lr=0.05)
    turns = Turns({"plain": technique(plain), "teacher": forward} | {k: technique(v) for k, v in TAUGHT.items()})
    turns.play()
    return {name: np.array(spent)[WARM:] for name, spent in turns.times.items()}


def main() -> int:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (BATCH, 3, 32, 32), np.uint8), np.arange(BATCH) % 10
    images = Images(x, y, x[:10], y[:10], classes=tuple("0123456789"))
    spent = measure(ImageTask(images, Settings(crop=4, flip=True, validation=0)))
    worst = 0.0
    for clock, unit in ((1, "wall"), (0, "processor")):  # the last one counts
        alone = spent["plain"][:, clock] + spent["teacher"][:, clock]
        for name in ("plain", "teacher"):
            print(f"{unit:<10} {name:<17} {1e3 * statistics.median(spent[name][:, clock]):.1f} ms")
        ratios = {name: spent[name][:, clock] / alone for name in TAUGHT}
        for name, ratio in ratios.items():
            low, middle, high = statistics.quantiles(ratio, n=4)
            ms = 1e3 * statistics.median(spent[name][:, clock])
            print(f"{unit:<10} {name:<17} {ms:.1f} ms, ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f})")
        worst = max(statistics.median(ratio) for ratio in ratios.values())
    print(f"n = {ROUNDS - WARM} rounds, ResNet-20 teaches ResNet-20 of half its width, batch {BATCH}")
    print(f"{cpu()}, {len(cpus())} cores, 1 thread, torch {torch.__version__}")
    if worst > MOST:
        print(f"FAILED: the ratio must be at most {MOST:g}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
