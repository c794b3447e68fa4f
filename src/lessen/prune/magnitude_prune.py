"""Weights below a threshold become zero and stay zero (Han et al. 2015, arXiv:1506.02626)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from lessen.core import training
from lessen.core.errors import BadField, Refused, UnknownName
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique

if TYPE_CHECKING:
    from torch import nn


class MagnitudePrune(Technique):
    """Unstructured pruning of every convolution and linear layer, the one that gives the logits included.

    `sparsity` is the share of all weights that are zero afterwards, earlier zeros counted. With `sparsity=0.0` a
    `threshold` decides instead. With `epochs` the model is trained on, behind the pruning (`ramp="one-shot"`) or
    while sparsity rises.
    """

    paper: ClassVar[str] = "Han et al. 2015, arXiv:1506.02626; Zhu & Gupta 2017, arXiv:1710.01878"
    neutral: ClassVar[dict[str, Any] | None] = {"sparsity": 0.0}
    shown: ClassVar[tuple[str, ...]] = ("sparsity",)

    sparsity: Annotated[float, Range("share of weights that are zero afterwards", 0.0, 0.99)] = 0.5
    threshold: Annotated[
        float, Range("with sparsity=0.0: weights of at most this size become zero; 0 is off", 0.0, 1e6)
    ] = 0.0
    scope: Annotated[
        Literal["global", "layer"], Doc("rank the weights of all layers together, or every layer by itself")
    ] = "global"
    floor: Annotated[
        float, Range("share of its weights that a layer keeps under scope='global' or a threshold", 0.0, 1.0)
    ] = 0.01
    layers: Annotated[
        tuple[tuple[str, Annotated[float, Range("sparsity of one layer", 0.0, 0.99)]], ...],
        Doc("(path, sparsity) of layers with a sparsity of their own; the others are ranked without them"),
    ] = ()
    criterion: Annotated[
        Literal["magnitude", "gradient", "random"], Doc("a weight's score: |w|, |w * gradient| of the loss, or chance")
    ] = "magnitude"
    ramp: Annotated[
        Literal["one-shot", "gradual", "polynomial", "constant"],
        Doc("all before training, n equal steps within it, n cubic steps, or all at `begin`"),
    ] = "one-shot"
    steps: Annotated[int, Range("steps of a gradual or polynomial ramp", 1, 100_000, log=True)] = 10
    begin: Annotated[float, Range("share of the training before sparsity starts to rise", 0.0, 1.0)] = 0.0
    end: Annotated[float, Range("share of the training at which the last step is taken", 0.0, 1.0)] = 0.3
    epochs: Annotated[int, Range("passes over the training data; 0 does not train", 0, 10_000)] = 0
    lr: Annotated[
        float, Range("learning rate at its peak; a tenth of what trained the model", 1e-6, 10.0, log=True)
    ] = 0.01
    batch: training.BatchSize = 128
    optimizer: training.Optimizer = "sgd"
    schedule: training.Schedule = "cosine"
    warmup: training.Warmup = 0.0
    weight_decay: training.Decay = 5e-4
    smoothing: training.Smoothing = 0.0
    augment: training.Augment = True
    precision: training.Precision = "32"

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        import torch

        from lessen.ops import layers, saliency, sparsity, ties, train, training_plan

        weights = ties.once(layers.own(model))
        if not weights:
            raise Refused("MagnitudePrune finds no convolution or linear layer in this model; prune one that has some")
        self._check(tuple(weights), {path: first for first, *tied in ties.tied_layers(model) for path in tied})
        sparsity.refuse_signs(weights, "MagnitudePrune")
        goal = sparsity.Goal(self.sparsity, self.threshold, self.scope, self.floor, self.layers)
        seed, start = torch.initial_seed(), sparsity.zeros(weights)

        def prune(model: nn.Module, done: float) -> None:
            """Go to the share `done` of the way; decided by the weights, `start` and the seed alone."""
            scores = saliency.scores(model, self.criterion, task, seed)
            sparsity.install(model, goal.masks(ties.once(model), scores, done, start))

        plan = train.Plan.of(self)
        steps = training_plan.step_count(task, plan) if self.epochs else 0
        updates = sparsity.updates(self.ramp, steps, self.steps, self.begin, self.end)
        if 0 in updates:
            prune(model, updates[0])
        train.fit(model, task, plan, run, hooks=[lambda m, step: prune(m, updates[step]) if step in updates else None])
        run.details.update(sparsity.account(weights))
        run.notes += sparsity.left_dense(model)
        if self.ramp != "one-shot":
            run.details["ramp"] = [[step, done] for step, done in updates.items()]
        return model

    def _check(self, paths: tuple[str, ...], tied: dict[str, str]) -> None:
        """Errors: BadField for fields that contradict each other, UnknownName for a layer that is not there.

        tied: path of a layer -> of the earlier one whose weight it has.
        """
        if self.threshold and self.sparsity:
            raise BadField(
                f"MagnitudePrune.threshold = {self.threshold:g} beside sparsity = {self.sparsity:g} says two amounts; "
                "set sparsity=0.0 to prune by the threshold"
            )
        if self.threshold and self.criterion != "magnitude":
            raise BadField(
                f"MagnitudePrune.threshold = {self.threshold:g} is a size, but criterion = '{self.criterion}' ranks by "
                "another score; set criterion='magnitude' or a sparsity"
            )
        if self.scope == "global" and self.floor + self.sparsity > 1 + 1e-9:
            raise BadField(
                f"MagnitudePrune.floor = {self.floor} keeps more than sparsity = {self.sparsity} leaves; "
                f"at most {1 - self.sparsity:g} is possible"
            )
        named = [path for path, _ in self.layers]
        for path in named:
            if path in tied:
                raise BadField(
                    f"MagnitudePrune.layers names '{path}', which has the weight of '{tied[path]}'; name that one"
                )
            if path not in paths:
                raise UnknownName("layer in MagnitudePrune.layers", path, paths)
            if named.count(path) > 1:
                raise BadField(f"MagnitudePrune.layers names '{path}' twice; give it one sparsity")
        if self.ramp != "one-shot" and not self.epochs:
            raise BadField(f"MagnitudePrune.ramp = '{self.ramp}' prunes while it trains; set epochs")
        if self.ramp != "one-shot" and self.begin > self.end:
            raise BadField(f"MagnitudePrune.begin = {self.begin:g} lies behind end = {self.end:g}; set it before")
