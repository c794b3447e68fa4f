"""Quantizers are put into a model: weights get scales of their own values, activations ranges from calibration samples.

Fewer bits that an earlier step has won, and scales that it has learned, stay.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lessen.core.errors import BadField, Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique
from lessen.ops import bias_correction, calibration, compensation, equalization, layers, ranges, ties
from lessen.ops.devices import device_of
from lessen.ops.graph import input_readers, quantizer_places
from lessen.ops.modes import evaluating
from lessen.ops.watching import Place, watching

RUN = 64  # training samples that show which quantizers a model's code runs: branches may depend on the data


@dataclass(frozen=True)
class Plan:
    """What to put where, for the technique of this name."""

    name: str
    bits: int | Mapping[str, int]  # of all weights, or of the layer at each path; a layer left out stays float
    activations: int | None = 8  # bits; None is float; the model's own input keeps 8 bits
    group: int = 0  # consecutive columns of a row that share a scale; 0 is the row
    symmetric: bool = True
    levels: ranges.Levels = "uniform"  # of weights
    weight_ranges: calibration.Rule = "coverage"
    weight_coverage: float = 1.0
    ranges: calibration.Rule = "coverage"
    coverage: float = 1.0
    samples: int = 0  # of calibration to look at; 0 is all
    rounding: Literal["nearest", "gptq"] = "nearest"
    correct_bias: bool = False
    equalize: bool = False

    @classmethod
    def of(cls, technique: Technique, **more: Any) -> Plan:
        """What a technique's fields of the same names say, "float" being None; more, like `bits`, goes before them."""
        fields = {k: None if v == "float" else v for k, v in technique if k in cls.__dataclass_fields__}
        return cls(type(technique).__name__, **{**fields, **more})


def quantize(model: nn.Module, task: Task, run: Run, plan: Plan) -> nn.Module:
    """Do so in place, and tell the run. Errors: Refused, BadField or BadData, each before anything was changed."""
    layers.own(model)
    check(model, plan)
    gptq = plan.rounding == "gptq"
    x = calibration.samples(task, plan.samples) if plan.activations or plan.correct_bias or gptq else None
    if plan.equalize:
        run.details["equalized"] = equalization.equalize(model)
    float_model = copy.deepcopy(model) if plan.correct_bias or gptq else None
    found = _calibrate(model, x, plan, run) if plan.activations and x is not None else {}
    fitted = _fit_weights(model, plan, run)
    if gptq and float_model is not None and x is not None:
        errors = compensation.compensate(model, float_model, x, fitted)
        run.details["rounding"] = {path: error._asdict() for path, error in errors.items()}
    for (path, slot), (span, bits) in found.items():
        quantizer = layers.ActivationQuantizer.covering(*span, bits=bits)
        setattr(model.get_submodule(path), slot, quantizer.to(device_of(model)))
    if plan.correct_bias and float_model is not None and x is not None:
        run.details["bias_shift"] = bias_correction.correct(model, float_model, x)
    if unknown := layers.left_alone(model):
        run.notes.append(f"kept in float, there is no quantizer for them: {', '.join(unknown)}")
    take_out_idle(model, task, run)
    return model


def take_out_idle(model: nn.Module, task: Task, run: Run) -> None:
    """Take out quantizers that the model's code does not run, and tell the run: its file would not have them."""
    places: dict[Place, tuple[str, str]] = {
        ("in", f"{path}.{slot}" if path else slot): (path, slot)
        for path, site in layers.sites(model).items()
        for slot in layers.SLOTS
        if getattr(site, slot, None) is not None
    }
    called: set[Place] = set()
    x = task.inputs(task.split("train").x[:RUN]).to(device_of(model))
    with watching(model, places, lambda place, _: called.add(place)), evaluating(model), torch.inference_mode():
        model(x)
    idle = [place for place in places if place not in called]
    for path, slot in map(places.__getitem__, idle):
        setattr(model.get_submodule(path), slot, None)
        if slot == "wq":
            run.details.setdefault("bits", {})[path] = 32
    if idle:
        paths = dict.fromkeys(f"'{places[place][0]}'" for place in idle)
        run.notes.append(
            "kept in float, the model's code does not run these layers, though it may read their weights: "
            f"{', '.join(paths)}; call the layer itself to have it quantized"
        )


def finite(model: nn.Module, name: str) -> None:
    """Errors: Refused, naming the layer whose weights or biases are not finite."""
    for path, layer in layers.weighted(model).items():
        for kind, value in (("weights", layer.weight), ("biases", layer.bias)):
            wrong = 0 if value is None else int((~torch.isfinite(value)).sum())
            if wrong:
                raise Refused(
                    f"{name} cannot quantize '{path}': {wrong} of its {kind} are NaN or infinite; train the model "
                    "again with a lower lr, or load other weights"
                )


def check(model: nn.Module, plan: Plan) -> None:
    """Whether this model can take it. Errors: Refused, BadField."""
    if plan.group and plan.activations:
        raise BadField(
            f"{plan.name}.group = {plan.group} needs activations='float': integer kernels take one scale for a row"
        )
    _check_levels(plan)
    weighted = layers.weighted(model)
    if not weighted:
        raise Refused(f"{plan.name} finds no convolution or linear layer in this model; quantize one that has some")
    finite(model, plan.name)
    grouped = [p for p, m in weighted.items() if getattr(m.wq, "group", 0) and m.wq.bits <= _bits(plan, p)]
    why = "because scales of groups go with float activations, and integer kernels take one scale for a row"
    if plan.activations and grouped:
        raise Refused(f"{plan.name} cannot follow groups of weights ('{grouped[0]}') {why}; do group=0 there")
    integers = any(isinstance(m, layers.ActivationQuantizer) for m in model.modules())
    if plan.group and integers and any(m.wq is None or m.wq.bits > _bits(plan, p) for p, m in weighted.items()):
        raise Refused(f"{plan.name} cannot follow quantized activations {why}; do {plan.name}(group=0)")


def _check_levels(plan: Plan) -> None:
    """Errors: BadField for powers of two that nothing holds, or that a range rule does not know."""
    if plan.levels == "uniform":
        return
    said = f"{plan.name}.levels = 'log'"
    if plan.bits not in (4, 3):
        raise BadField(f"{said} needs bits=4 or 3: powers of two are the usual levels in 2 bits, and outgrow int8 in 8")
    if not plan.symmetric:
        raise BadField(f"{said} needs symmetric=True: powers of two lie around zero; leave symmetric out")
    if plan.weight_ranges == "kl":
        raise BadField(f"{said} needs weight_ranges='mse' or 'coverage': 'kl' counts equal steps")


def _bits(plan: Plan, path: str) -> int:
    return plan.bits if isinstance(plan.bits, int) else plan.bits.get(path, 32)


def _calibrate(model: nn.Module, x: Tensor, plan: Plan, run: Run) -> dict[tuple[str, str], tuple[Any, int]]:
    """(path, slot) -> span and bits of each new quantizer; static ranges take the place of dynamic ones."""
    for layer in layers.weighted(model).values():
        layer.iq = None if isinstance(layer.iq, layers.DynamicQuantizer) else layer.iq
    places, first = quantizer_places(model), input_readers(model)
    wanted: dict[int, list[tuple[str, str]]] = {}
    for path, slot in [(p, "oq") for p in places.outputs] + [(p, "iq") for p in places.inputs]:
        bits = 8 if slot == "iq" and path in first else plan.activations or 8
        standing: Any = getattr(model.get_submodule(path), slot)
        if standing is None or standing.bits > bits:
            wanted.setdefault(bits, []).append((path, slot))
    found: dict[tuple[str, str], tuple[Any, int]] = {}
    for bits, here in wanted.items():
        outputs, inputs = ([p for p, s in here if s == slot] for slot in ("oq", "iq"))
        spans = calibration.spans(
            model, x, outputs=outputs, inputs=inputs, share=plan.coverage, rule=plan.ranges, bits=bits
        )
        found |= {(p, slot): (s, bits) for slot, part in zip(("oq", "iq"), spans, strict=True) for p, s in part.items()}
    told = sorted(found.items(), key=lambda item: item[0][1])  # inputs first
    run.details["activation_ranges"] = {path: [float(v) for v in span] for (path, _), (span, _) in told}
    if not places.traced:
        run.notes.append(
            "the model's code could not be traced, so only inputs of layers are quantized and their outputs "
            "stay float; write branches on data as layers to get integer kernels throughout"
        )
    return found


def _fit_weights(model: nn.Module, plan: Plan, run: Run) -> list[str]:
    """The paths of layers that get integers now."""
    fitted = []
    rule: ranges.Rule = "percentile" if plan.weight_ranges == "coverage" else plan.weight_ranges
    told = run.details.setdefault("bits", {})
    for path, layer in layers.weighted(model).items():
        bits = _bits(plan, path)
        if bits <= 8 and (layer.wq is None or layer.wq.bits > bits):  # fewer bits or learned scales stay
            kind = layers.LogWeights if plan.levels == "log" else layers.WeightQuantizer
            layer.wq = kind.fitting(
                layer, bits, group=plan.group, symmetric=plan.symmetric, rule=rule, share=plan.weight_coverage
            )
            fitted.append(path)
        elif bits == 16 and layer.wq is None:
            layer.wq = layers.HalfQuantizer.fitting(layer)
        told[path] = 32 if layer.wq is None else layer.wq.bits
    ties.tie_scales(model)
    return fitted
