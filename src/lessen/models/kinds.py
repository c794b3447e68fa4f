"""What kind of layers a compressed model has, and the same kinds for a fresh net of another shape.

Bits, groups and quantized activations go over. Which weights are zero does not: that belongs to the weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from lessen import models
from lessen.core.errors import BadArtifact, Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.text import Call
from lessen.ops import calibration, graph, insertion, layers, sign_insertion, structure
from lessen.ops.modes import evaluating

if TYPE_CHECKING:
    from torch import nn

CHANGES = ("mask", *layers.SLOTS)
ROLES = ("first", "inner", "last")
T = TypeVar("T")


@dataclass(frozen=True)
class Kinds:
    """By role: a weight quantizer whose kind layers of that role get, and the kind of their inputs' quantizers."""

    weights: dict[str, layers.Quantizer | None]
    inputs: dict[str, type[layers.Quantizer] | None]
    activations: int | None  # bits of static activations; None is float
    masked: bool  # some weights were held at zero

    def __bool__(self) -> bool:
        return self.activations is not None or any(self.weights.values()) or any(self.inputs.values())


def refuse_unknown(technique: str, model: nn.Module, run: Run) -> None:
    """Errors: Refused, with the reason, where more has changed than zeros and quantizers."""
    builder: Call | None = getattr(model, "builder", None)
    if builder is None:
        return
    reason = _unknown(model, models.rebuild(builder))
    if reason:
        before = run.done[-1] if run.done else "a compression"
        raise Refused(
            f"{technique} cannot follow {before} because {reason}, which a net of another shape cannot inherit; "
            f"put {technique} first"
        )


def _unknown(model: nn.Module, fresh: nn.Module) -> str:
    """In words, the first change that is neither a mask nor a quantizer."""
    try:
        specs = structure.differences(model, fresh)
    except BadArtifact as e:
        return f"a part of it is no layer of its builder's ({e})"
    modules = dict(layers.own(fresh).named_modules())
    for path, spec in specs.items():
        old = modules.get(path)
        if "same_as" in spec:
            return f"'{path}' is '{spec['same_as']}' as well, which its builder does not make"
        if isinstance(old, layers.Conv2d | layers.Linear) and spec["type"] == "Sequential":
            return f"'{path}' was factored into {len(spec['children'])} layers"
        known = {} if old is None or type(old) not in structure.ARGUMENTS else structure.describe(old, path)
        if known.get("type") != spec["type"]:
            return f"'{path or 'the model'}' is a {spec['type']} that its builder does not make"
        if any(spec[k] != v for k, v in known.items() if k not in CHANGES):
            return f"'{path}' was cut to another shape"
    return ""


def kinds(model: nn.Module) -> Kinds:
    """Of the first and the last layer that computes, their own; of those between, the kind that most have."""
    weighted = layers.weighted(layers.own(model))
    roles = _roles(model)
    members = {role: [m for path, m in weighted.items() if roles[path] == role] for role in ROLES}
    weights, inputs = {}, {}
    for role, found in members.items():
        weights[role] = most([m.wq for m in found], _kind)
        inputs[role] = most([type(m.iq) if _dynamic(m.iq) else None for m in found], repr)
    static = [m for m in model.modules() if isinstance(m, layers.ActivationQuantizer)]
    bits = most([m.bits for m in static], repr)
    if len(static) > 1:  # the model's own input keeps 8 bits whatever the others have
        first = [m.iq for m in members["first"]]
        bits = most([m.bits for m in static if not any(m is f for f in first)], repr) or bits
    return Kinds(weights, inputs, bits, any(m.mask is not None for m in weighted.values()))


def give(net: nn.Module, kinds: Kinds, technique: str, task: Task, run: Run) -> nn.Module:
    """Put these kinds into a fresh net, in place, and tell the run. Errors: those of `insertion.quantize`."""
    weighted = layers.weighted(layers.own(net))
    roles = _roles(net)
    for path, layer in weighted.items():
        like: Any = kinds.weights[roles[path]]
        if like is not None:
            layer.wq = like.refit(layer).to(layer.weight.device)
    if kinds.activations or any(kinds.inputs.values()):
        settle(net, task)
    plan = insertion.Plan(technique, {}, kinds.activations, ranges="mse")
    insertion.quantize(net, task, run, plan)
    signs = [path for path in weighted if kinds.inputs[roles[path]] is layers.SignActivations]
    sign_insertion.take_signs(net, task, signs)
    for path, layer in weighted.items():
        if kinds.inputs[roles[path]] is layers.DynamicQuantizer and isinstance(layer, torch.nn.Linear):
            layer.iq = layers.DynamicQuantizer()
    run.details["inherited"] = {
        **{role: _words(quantizer) for role, quantizer in kinds.weights.items()},
        "activations": "float" if kinds.activations is None else f"{kinds.activations} bits",
    }
    return net


def settle(net: nn.Module, task: Task) -> None:
    """Give batch norms the statistics of calibration samples: a fresh net's would leave activations out of scale."""
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d) and m.track_running_stats]
    kept = [norm.momentum for norm in norms]
    with evaluating(net), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean of all that comes
            norm.train()
        net(calibration.samples(task).to(next(net.parameters()).device))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


def most(values: Sequence[T | None], name: Any) -> T | None:
    """The value whose name most have, the first of those; None of none, or where None is what most are."""
    if not values:
        return None
    counts = Counter(name(v) for v in values)
    wanted = counts.most_common(1)[0][0]
    return next(v for v in values if name(v) == wanted)


def _roles(model: nn.Module) -> dict[str, str]:
    """Path of each layer with weights -> its role; a layer alone is the last."""
    ends = graph.ends(model)
    roles = dict.fromkeys(layers.weighted(model), "inner")
    return roles | dict(zip(ends, ("first", "last"), strict=True)) if ends else roles


def _kind(quantizer: Any) -> str:
    """Tells kinds apart, whatever the shapes."""
    if quantizer is None:
        return ""
    return repr((type(quantizer).__name__, {k: v for k, v in quantizer.spec().items() if k != "groups"}))


def _dynamic(quantizer: Any) -> bool:
    return isinstance(quantizer, layers.DynamicQuantizer | layers.SignActivations)


def _words(quantizer: Any) -> str:
    if quantizer is None:
        return "float"
    group = getattr(quantizer, "group", 0)
    return f"{quantizer.bits} bit{'s' * (quantizer.bits != 1)}" + (f", groups of {group}" if group else "")
