"""Born again: the same net from fresh weights, taught by the one before (Furlanello et al. 2018, arXiv:1805.04770)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from lessen.core import training
from lessen.core.errors import Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.teaching import Alpha, Temperature
from lessen.core.technique import Doc, Range, Technique

if TYPE_CHECKING:
    from torch import nn


class SelfDistill(Technique):
    """Generations of the given model's own architecture; the model teaches the first, each the next.

    Nothing gets smaller, and one net is the result: the paper's ensemble of generations would be shipped as several.
    Published without a temperature, on the teacher's shares alone (`alpha=1.0`) or beside the labels. Nothing but
    training may come before it.
    """

    paper: ClassVar[str] = "Furlanello et al. 2018, arXiv:1805.04770"
    neutral: ClassVar[dict] = {"epochs": 0}
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("generations", "epochs")

    generations: Annotated[int, Range("nets trained in turn", 1, 100)] = 2
    keep: Annotated[Literal["last", "best"], Doc("the generation to return; best is of the validation scores")] = "last"
    epochs: training.Epochs = 10
    temperature: Temperature = 1.0
    alpha: Alpha = 0.5
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
        from lessen.models import chain, pristine
        from lessen.ops import lessons, train

        pristine.refuse_fresh("SelfDistill", model, run)
        text = pristine.text(model)
        if text is None:
            raise Refused(
                "SelfDistill cannot make the model's architecture again because the model does not know its builder; "
                "build it by a name of the zoo or as package.module:function"
            )
        if not self.epochs:
            return model
        lesson = lessons.shares_and_labels(task, self.temperature, self.alpha, smoothing=self.smoothing)
        nets, histories = chain.taught_in_turn([text] * self.generations, model, task, run, train.Plan.of(self), lesson)
        scores = [stage["validation"] for stage in run.details["stages"]]
        kept = len(nets) - 1
        if self.keep == "best" and None not in scores:
            kept = scores.index(max(scores))
            run.notes.append(f"kept generation {kept + 1} of {len(nets)}, the best on validation ({scores[kept]:.4f})")
        run.history[:] = histories[kept]
        return nets[kept]
