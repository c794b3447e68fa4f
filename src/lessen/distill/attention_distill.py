"""A student learns to look where its teacher looks (Zagoruyko & Komodakis 2017, arXiv:1612.03928)."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core import training
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.teaching import Hard, Layers, Soft, Teacher, Temperature
from lessen.core.technique import Range, Technique

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.ops.teaching import View
    from lessen.ops.training_plan import Batch


PIXELS = 32 * 32  # of the images for which the published weight is
PLACES = 16  # in a smaller map there is little to look at, and its pull is the hardest


class AttentionDistill(Technique):
    """Trains on hard * cross-entropy + soft * LogitDistill's term + weight * distance of attention maps.

    Attention is the sum over channels of squares, divided by its length; the distance is the mean over places of the
    squared difference, summed over layers: the form of the authors' code and RepDistiller, whose weight is 1000 at
    32 x 32 pixels. At p pixels it counts p / 1024 times, so that a stage weighs the same: a quarter of the side has a
    sixteenth of the places. Widths may differ. Layers found by shape end the stages of equal size, from 4 x 4 up.
    """

    paper: ClassVar[str] = "Zagoruyko & Komodakis 2017, arXiv:1612.03928"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: training.Epochs = 10
    weight: Annotated[
        float, Range("weight of the attention maps' squared distance, at 32x32 pixels", 0.0, 1_000_000.0)
    ] = 1000.0
    layers: Layers = ()
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
        from torch import stack

        from lessen.models.teachers import teacher
        from lessen.ops import feature_losses, layer_pairs, lessons, teaching, train

        known = teacher("AttentionDistill", self.teacher, model, task, run)
        (taught_by,) = known.values()
        pairs = layer_pairs.between("AttentionDistill", model, taught_by, task, self.layers, PLACES)
        layer_pairs.account(pairs, run.details, run.notes)
        weights = self.hard, self.soft, self.weight * prod(task.shape[1:]) / PIXELS

        def own(student: View, taught: View, batch: Batch, aids: nn.Module) -> Tensor:
            matched = map(feature_losses.alike, student.features, taught.features)
            return stack([feature_losses.attention_transfer(s, t) for s, t in matched]).sum()

        lesson = lessons.layers_and_labels(task, own, weights, self.temperature, smoothing=self.smoothing)
        return teaching.teach(
            model, known, task, train.Plan.of(self), run, lesson,
            paths=tuple(p.student.path for p in pairs), teacher_paths=tuple(p.teacher.path for p in pairs),
        )  # fmt: skip
