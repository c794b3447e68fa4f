"""A student learns its teacher's softened shares beside the labels (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core.errors import Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Range, Technique
from lessen.core.training import Augment, BatchSize, Decay, Epochs, Optimizer, Rate, Schedule, Smoothing, Warmup

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.ops.train import Batch


class LogitDistill(Technique):
    """Trains on alpha * T^2 KL(teacher || student at T) + (1 - alpha) * cross-entropy.

    The teacher is the model from before the recipe; it sees the same augmented batch in the same step.
    """

    paper: ClassVar[str] = "Hinton et al. 2015, arXiv:1503.02531"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    epochs: Epochs = 10
    temperature: Annotated[float, Range("softens both before they are compared", 0.1, 100.0, log=True)] = 4.0
    alpha: Annotated[float, Range("share of the soft term; the rest is the labels'", 0.0, 1.0)] = 0.9
    lr: Rate = 0.05
    batch: BatchSize = 128
    optimizer: Optimizer = "sgd"
    schedule: Schedule = "cosine"
    warmup: Warmup = 0.0
    weight_decay: Decay = 5e-4
    smoothing: Smoothing = 0.0
    augment: Augment = True

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        import torch

        from lessen.ops import layers, losses, train

        plan = train.Plan.of(self)
        teacher: nn.Module = task.copy(run.origin).eval()
        known, asked = outputs(teacher, task), outputs(model, task)
        if known != asked:
            raise Refused(
                f"LogitDistill cannot teach {asked} classes by a teacher of {known}; use a teacher of this task"
            )
        if same(teacher, model):
            run.notes.append("the teacher is the model itself; put Student or a compression before LogitDistill")
        run.details["teacher"] = str(getattr(teacher, "builder", type(teacher).__name__))

        def loss(student: nn.Module, batch: Batch) -> Tensor:
            with torch.inference_mode():
                known = teacher.to(batch.x.device)(batch.x)
            found = student(batch.x)
            hard = task.loss(found, batch.y, self.smoothing)
            return self.alpha * losses.soft_targets(found, known, self.temperature) + (1 - self.alpha) * hard

        return train.fit(layers.own(model), task, plan, run, loss=loss)


def outputs(model: nn.Module, task: Task) -> int:
    """How many classes the model tells apart."""
    import torch

    from lessen.ops.modes import evaluating

    x = task.inputs(task.split("calibration").x[:1])
    with evaluating(model), torch.inference_mode():
        return model(x.to(next(model.parameters()).device)).shape[1]


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether both hold the same tensors."""
    import torch

    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a)
