"""From large to small in steps: each size is taught by the one before (Mirzadeh et al. 2020, arXiv:1902.03393).

A student far smaller than its teacher learns less from it than from a net between them, a teacher's assistant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core import training
from lessen.core.errors import BadField
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.teaching import Alpha, Temperature
from lessen.core.technique import Doc, Range, Technique

if TYPE_CHECKING:
    from torch import nn


class ProgressiveDistill(Technique):
    """The given model teaches the first size, that one the second, and so on; the last is the result.

    Each is trained from fresh weights for `epochs` as LogitDistill trains, so the whole costs as many times that as
    there are sizes. Nothing but training may come before it, and the given model is the teacher of what follows.
    """

    paper: ClassVar[str] = "Mirzadeh et al. 2020, arXiv:1902.03393"
    trains: ClassVar[bool] = True
    replaces: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("epochs",)

    widths: Annotated[tuple[float, ...], Range("factors on the given model's width, falling", 0.01, 1.0)] = (
        0.75, 0.5, 0.25,
    )  # fmt: skip
    models: Annotated[tuple[str, ...], Doc("the chain by name, such as ('vgg13', 'vgg11'), in place of widths")] = ()
    epochs: Annotated[int, Range("passes over the training data of each size", 1, 10_000)] = 10
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
        from lessen.models import chain, pristine
        from lessen.ops import lessons, train

        pristine.refuse_fresh("ProgressiveDistill", model, run)
        lesson = lessons.shares_and_labels(task, self.temperature, self.alpha, smoothing=self.smoothing)
        texts = self._texts(model, task)
        nets, histories = chain.taught_in_turn(texts, model, task, run, train.Plan.of(self), lesson)
        run.history[:] = histories[-1]
        return nets[-1]

    def _texts(self, model: nn.Module, task: Task) -> tuple[str, ...]:
        """What to build, each smaller than the one before. Errors: BadField, Refused."""
        from lessen.models import pristine

        texts = self.models or tuple(pristine.narrower("ProgressiveDistill.models", model, s) for s in self.widths)
        if not texts:
            raise BadField("ProgressiveDistill.widths = () names no student; name one, for example (0.5,)")
        before = task.cost(model).parameters
        for text in texts:
            own = task.cost(task.build(text)).parameters
            pristine.refuse_no_smaller("ProgressiveDistill", text, own, before)
            before = own
        return texts
