"""Many teachers, one student: it learns the mean of their softened shares (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core import training
from lessen.core.errors import Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.teaching import Alpha, Temperature
from lessen.core.technique import Folder, Range, Technique

if TYPE_CHECKING:
    from torch import nn


class EnsembleDistill(Technique):
    """LogitDistill by several teachers at once, whose shares at T are averaged.

    They are artifacts, then the model that Student replaced (or before the recipe), then more nets of that one's
    builder, which are trained here on the labels from other seeds: `count - 1` trainings before the student's own.
    """

    paper: ClassVar[str] = "Hinton et al. 2015, arXiv:1503.02531"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("count", "epochs")

    teachers: Annotated[tuple[str, ...], Folder("artifacts' folders, each a teacher")] = ()
    count: Annotated[int, Range("teachers in all; where more folders are named, those", 1, 64)] = 3
    teacher_epochs: Annotated[int, Range("epochs of each teacher trained here; 0 is as many as epochs", 0, 10_000)] = 0
    teacher_lr: Annotated[float, Range("learning rate at its peak of teachers trained here", 1e-6, 10.0, log=True)] = (
        0.05
    )
    epochs: training.Epochs = 10
    temperature: Temperature = 4.0
    alpha: Alpha = 0.9
    lr: training.Rate = 0.05
    batch: training.BatchSize = 128
    optimizer: training.Optimizer = "sgd"
    schedule: training.Schedule = "cosine"
    warmup: training.Warmup = 0.0
    weight_decay: training.Decay = 5e-4
    smoothing: training.Smoothing = 0.0
    augment: training.Augment = True
    precision: training.Precision = "32"

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        from lessen.models.teachers import teacher
        from lessen.ops import lessons, teaching, train

        if not self.epochs:
            return model
        folders = tuple(dict.fromkeys(self.teachers))
        sources = folders if self.count <= len(folders) else (*folders, "")  # "" is the run's origin
        known = {}
        for folder in sources:
            known |= teacher("EnsembleDistill", folder, model, task, run)
        more = self.count - len(known)
        known |= self._trained(more, task, run) if more > 0 else {}
        scores = {name: task.evaluate(net, "validation") for name, net in known.items()}
        members = [{"name": name, "validation": score} for name, score in scores.items()]
        lesson = lessons.shares_and_labels(task, self.temperature, self.alpha, smoothing=self.smoothing)
        jury = {f"{len(known)} together": teaching.Together(known.values(), self.temperature)}
        behind = max(0, more)
        last = replace(run, progress=run.part("student", behind, behind + 1).progress)
        student = teaching.teach(model, jury, task, train.Plan.of(self), last, lesson)
        run.details["ensemble"] = run.details["teachers"][0]["validation"]
        run.details["teachers"] = members
        return student

    def _trained(self, count: int, task: Task, run: Run) -> dict[str, nn.Module]:
        """So many nets of the origin's builder, by name, from seeds of their own. Errors: Refused without a builder."""
        import torch

        from lessen.models import pristine
        from lessen.ops import layers, train
        from lessen.ops.training_plan import mix_seeds

        text = pristine.text(run.origin)
        if text is None:
            raise Refused(
                f"EnsembleDistill cannot train {count} more teachers because the first does not know its builder; "
                f"name {self.count} artifacts in teachers, or set count={self.count - count}"
            )
        seed, device = torch.initial_seed(), next(run.origin.parameters()).device
        plan = replace(train.Plan.of(self), epochs=self.teacher_epochs or self.epochs, lr=self.teacher_lr)
        found: dict[str, nn.Module] = {}
        for i in range(count):
            part = run.part(f"teacher-{i + 1}", i, count + 1)
            with task.seeded(mix_seeds(seed, i)):
                net = train.fit(layers.own(task.build(text)).to(device), task, plan, part)
            found[f"{text} of seed {i + 1}"] = net.eval()
            run.notes += [note for note in part.notes if note not in run.notes]
        return found
