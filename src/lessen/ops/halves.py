"""Weights as two-byte floats, in the slot of a quantizer."""

from __future__ import annotations

import torch
from torch import nn

from lessen.core.errors import Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.ops import layers
from lessen.ops.insertion import finite, take_out_idle


def halve(model: nn.Module, task: Task, run: Run, name: str, kind: str) -> nn.Module:
    """Every float weight as `kind`, float16 or bfloat16, in place. Errors: Refused for a weight that is too large."""
    finite(layers.own(model), name)
    bits = run.details.setdefault("bits", {})
    for path, layer in layers.weighted(model).items():
        if layer.wq is None:
            layer.wq = layers.HalfQuantizer(kind)
            if not torch.isfinite(layer.effective_weight()).all():
                largest = float(layer.weight.detach().abs().max())
                raise Refused(f"{name} cannot hold the weights of '{path}', up to {largest:g}; use BFloat16() instead")
        bits[path] = layer.wq.bits
    if all(n < 16 for n in bits.values()):
        run.notes.append("nothing changed: every weight has fewer bits already")
    if unknown := layers.left_alone(model):
        run.notes.append(f"kept in float, there is no quantizer for them: {', '.join(unknown)}")
    take_out_idle(model, task, run)
    run.notes.append("weights take two bytes in the file; runtimes on CPUs compute them in float32, at its speed")
    return model
