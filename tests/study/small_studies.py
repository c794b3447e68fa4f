"""Small studies on digits, with packing and measuring replaced where a test is about neither."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from lessen.core.record import Bytes, Machine, Measurement, Score
from lessen.study import Study

HERE = Machine(cpu="c", cores=2, threads=1, memory_gib=8.0, system="s", python="3.11", runtime="r")


def small(*recipes: str, **changed) -> Study:
    """A study whose baseline is a net that nobody trained."""
    study = Study(name="small", task="digits", model="cnn(width=0.125)", baseline="Finetune(epochs=0)", recipes=recipes)
    return study.model_copy(update=changed)


class Rooms:
    """Stand-ins for `pack` and `measure` that note their calls."""

    def __init__(self) -> None:
        self.packed: list[tuple[str, int]] = []
        self.measured: list[str] = []
        self.fail: dict[str, Exception] = {}  # by recipe: what packing it raises

    def pack(self, model, task, folder: Path, *, recipe, seed, records, parent):
        if recipe in self.fail:
            raise self.fail[recipe]
        folder.mkdir(parents=True)
        self.packed.append((recipe, seed))
        return SimpleNamespace(folder=folder, cost=task.cost(model))

    def measure(self, artifact, task, *, target, baseline, predictions, tell):
        self.measured.append(artifact.folder.name)
        score = Score(value=0.5, low=0.4, high=0.6, n=100)
        return Measurement(
            validation=score, test=score, bytes=Bytes(runnable=1, transport=1, folder=1), latency=(),
            cost=artifact.cost, peak_memory_mib=1.0, machine=HERE,
        )  # fmt: skip
