"""A student learns to give what its teacher's hidden layers give (FitNets, Romero et al. 2015, arXiv:1412.6550)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core import training
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.teaching import Hard, Layers, Soft, Teacher, Temperature
from lessen.core.technique import Doc, Range, Technique

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.ops.teaching import View
    from lessen.ops.training_plan import Batch

SEEN = 256  # samples that show whether a layer gives nothing below zero


class HintDistill(Technique):
    """Trains on hard * cross-entropy + soft * LogitDistill's term + weight * squared error of hidden layers.

    The error is the mean over all values of a layer, RepDistiller's normalization, for which 100 is the published
    weight. Where widths differ, the student's channels go through a 1x1 convolution and batch norm that are trained
    with it and left out of the result. Layers found by shape end the stages of equal size, and of these the middle one
    is the hint. FitNets trains the hint first and then the rest; here, as in RepDistiller, both go on together.
    """

    paper: ClassVar[str] = "Romero et al. 2015, arXiv:1412.6550"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: training.Epochs = 10
    weight: Annotated[float, Range("weight of the layers' mean squared error", 0.0, 100_000.0)] = 100.0
    layers: Layers = ()
    several: Annotated[bool, Doc("all pairs that are found by shape, not the middle one alone")] = False
    hard: Hard = 1.0
    soft: Soft = 0.0
    temperature: Temperature = 4.0
    teacher: Teacher = ""
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
        from torch import nn, stack

        from lessen.models.teachers import teacher
        from lessen.ops import feature_losses, layer_pairs, lessons, teaching, train
        from lessen.ops.aids import adapter

        known = teacher("HintDistill", self.teacher, model, task, run)
        (taught_by,) = known.values()
        pairs = layer_pairs.between("HintDistill", model, taught_by, task, self.layers)
        if not self.layers and not self.several:
            pairs = pairs[len(pairs) // 2 :][:1]
        layer_pairs.account(pairs, run.details, run.notes)
        shown = teaching.look(taught_by, task, tuple(p.teacher.path for p in pairs), SEEN).features
        adapters = nn.ModuleList(
            adapter(p.student.channels, p.teacher.channels, rectified=bool((f >= 0).all()))
            for p, f in zip(pairs, shown, strict=True)
        )
        for row, fit in zip(run.details["pairs"], adapters, strict=True):
            row["adapter_parameters"] = sum(p.numel() for p in fit.parameters())

        def own(student: View, taught: View, batch: Batch, aids: nn.Module) -> Tensor:
            matched = map(feature_losses.alike, student.features, taught.features)
            return stack([feature_losses.hint(fit(s), t) for fit, (s, t) in zip(adapters, matched, strict=True)]).sum()

        weights = self.hard, self.soft, self.weight
        lesson = lessons.layers_and_labels(task, own, weights, self.temperature, smoothing=self.smoothing)
        return teaching.teach(
            model, known, task, train.Plan.of(self), run, lesson, aids=adapters,
            paths=tuple(p.student.path for p in pairs), teacher_paths=tuple(p.teacher.path for p in pairs),
        )  # fmt: skip
