"""Signs are put into a model: weights of one or two bits in every layer between the first and the last, then training.

The first layer and the one that gives the logits keep more bits, as in every binary net that works (Rastegari et al.
2016, arXiv:1603.05279, 4.1): they are few bytes and cost most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from lessen.core.errors import Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique
from lessen.ops import calibration, insertion, layers, train
from lessen.ops.graph import ends
from lessen.ops.modes import evaluating
from lessen.ops.sign_quantizers import Scale
from lessen.ops.watching import Place, watching


@dataclass(frozen=True)
class Plan:
    """What to put where, for the technique of this name."""

    name: str
    bits: Literal[1, 2]  # of the weights between the first and the last layer
    scale: Scale
    ends: int | None  # bits of the weights of the first and the last layer; None is float
    activations: int | None  # 8; 1 is the sign where binary layers read, 8 elsewhere; None is float
    ranges: calibration.Rule
    coverage: float

    @classmethod
    def of(cls, technique: Technique, bits: Literal[1, 2]) -> Plan:
        """What the fields of Binary or Ternary say, "float" being None."""
        fields: dict[str, Any] = {k: None if v == "float" else v for k, v in technique if k in cls.__dataclass_fields__}
        return cls(type(technique).__name__, bits, **fields)


def train_signs(model: nn.Module, task: Task, run: Run, plan: Plan, training: train.Plan) -> nn.Module:
    """Do so in place, train, and tell the run. Errors: those of `insert` and of training."""
    before = task.evaluate(model, "validation")
    insert(model, task, run, plan)
    run.details["validation"] = {"before": before, "rounded": task.evaluate(model, "validation")}
    model = train.fit(model, task, training, run)
    kept = "float" if plan.ends is None else f"{plan.ends} bits"
    kinds = {None: "float activations", 8: "8-bit activations", 1: "1-bit inputs of these layers, 8 bits elsewhere"}
    what = f"{plan.bits}-bit weights ({kept} in the first and the last layer) and {kinds[plan.activations]}"
    if training.epochs:
        run.notes.append(f"trained for {training.epochs} epochs with {what}")
    else:
        run.notes.append(f"not trained with {what}: such a model is near chance until it is; set epochs")
    return model


def insert(model: nn.Module, task: Task, run: Run, plan: Plan) -> nn.Module:
    """Signs between the ends, integers at the ends, activations as planned. Errors: Refused, BadData."""
    insertion.finite(layers.own(model), plan.name)
    weighted, outer = layers.weighted(model), set(ends(model))
    inner = [path for path in weighted if path not in outer]
    if not weighted:
        raise Refused(f"{plan.name} finds no convolution or linear layer in this model; quantize one that has some")
    if not inner:
        raise Refused(f"{plan.name} finds no layer between the first and the last, which keep their bits; use Int8()")
    for path in inner:
        layer = weighted[path]
        if not (isinstance(layer.wq, layers.SignWeights) and layer.wq.bits <= plan.bits):  # no kind has fewer bits
            fitted = layers.SignWeights.fitting(layer, plan.bits, plan.scale)
            layer.wq = fitted.to(layer.weight.device).train(layer.training)
    bits = {} if plan.ends is None else dict.fromkeys(outer, plan.ends)
    activations = None if plan.activations is None else 8
    insertion.quantize(
        model, task, run,
        insertion.Plan(plan.name, bits, activations, weight_ranges="mse", ranges=plan.ranges, coverage=plan.coverage),
    )  # fmt: skip
    if plan.activations == 1:
        take_signs(model, task, inner)
    return model


def take_signs(model: nn.Module, task: Task, paths: list[str]) -> None:
    """Inputs of these layers become signs, each fitted with those before it in place."""
    x = calibration.samples(task)[:128].to(next(model.parameters()).device)
    weighted = layers.weighted(model)

    def fit(place: Place, inputs: tuple[torch.Tensor, ...]) -> None:
        layer = weighted[place[1]]
        if not isinstance(layer.iq, layers.SignActivations):
            layer.iq = layers.SignActivations.fitting(inputs[0]).to(inputs[0].device)

    with watching(model, [("in", path) for path in paths], fit), evaluating(model), torch.no_grad():
        model(x)
