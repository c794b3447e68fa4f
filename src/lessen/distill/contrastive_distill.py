"""A student learns which sample its teacher sees, among many of other classes (Tian et al. 2020, arXiv:1910.10699)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core import training
from lessen.core.errors import BadField, Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.teaching import Hard, Soft, Teacher, Temperature
from lessen.core.technique import Range, Technique

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.ops.teaching import View
    from lessen.ops.training_plan import Batch


PUBLISHED = 16_384  # negatives on CIFAR-100's 50,000 samples


class ContrastiveDistill(Technique):
    """Trains on hard * cross-entropy + soft * LogitDistill's term + weight * contrastive loss of penultimate features.

    What the heads of both read is embedded by a Linear each, of length 1, and told apart by noise-contrastive
    estimation from the memory of samples of other classes. They are drawn uniformly with replacement; RepDistiller
    draws without, which has the same mean. Embeddings and memories are trained beside the student and left out.
    """

    paper: ClassVar[str] = "Tian et al. 2020, arXiv:1910.10699"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: training.Epochs = 10
    weight: Annotated[float, Range("weight of the contrastive loss", 0.0, 1_000.0)] = 0.8
    negatives: Annotated[
        int, Range("samples of other classes to tell each from; 0 is all that fit, at most 16384", 0, 2**24)
    ] = 0
    dim: Annotated[int, Range("values of an embedding", 1, 65_536, log=True)] = 128
    tau: Annotated[float, Range("temperature of similarities", 0.01, 10.0, log=True)] = 0.07
    keep: Annotated[float, Range("share of the old in a sample's memory when it is renewed", 0.0, 0.999)] = 0.5
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
        from lessen.models.teachers import teacher
        from lessen.ops import devices, feature_losses, layer_pairs, lessons, teaching, train
        from lessen.ops.aids import Contrast

        if devices.world_size() > 1:
            raise Refused(
                "ContrastiveDistill remembers every sample, and several devices would not share what they remember; "
                "train it on one"
            )
        labels = task.split("train").y
        negatives = self._fitting(len(labels), int(labels.bincount().max()))
        known = teacher("ContrastiveDistill", self.teacher, model, task, run)
        (taught_by,) = known.values()
        spots, widths = [], []
        for side, net in (("student", model), ("teacher", taught_by)):
            spots.append(("in", layer_pairs.head("ContrastiveDistill", side, net, task)))
            (features,) = teaching.look(net, task, (spots[-1],)).features
            widths.append(feature_losses.as_vectors(features).shape[1])
        memory = Contrast(
            (widths[0], widths[1]), labels, dim=self.dim, negatives=negatives, tau=self.tau, keep=self.keep
        )
        run.details["contrast"] = {
            "heads": [path for _, path in spots], "widths": widths, "negatives": negatives, "samples": len(labels),
            "adapter_parameters": sum(p.numel() for p in memory.parameters()),
        }  # fmt: skip

        def own(student: View, taught: View, batch: Batch, aids: nn.Module) -> Tensor:
            return aids(*map(feature_losses.as_vectors, (*student.features, *taught.features)), batch.index)

        weights = self.hard, self.soft, self.weight
        lesson = lessons.layers_and_labels(task, own, weights, self.temperature, smoothing=self.smoothing)
        return teaching.teach(
            model, known, task, train.Plan.of(self), run, lesson, paths=(spots[0],), teacher_paths=(spots[1],),
            aids=memory,
        )  # fmt: skip

    def _fitting(self, samples: int, largest: int) -> int:
        """Negatives a sample, for so many training samples and so many of the largest class."""
        if samples == largest:
            raise Refused("ContrastiveDistill needs samples of another class, and the train split has one class alone")
        if self.negatives >= samples:
            raise BadField(
                f"ContrastiveDistill.negatives = {self.negatives} are too many for a memory bank of {samples} training "
                f"samples; write at most {samples - 1}, or 0 for as many as fit"
            )
        return self.negatives or min(PUBLISHED, samples - largest)
