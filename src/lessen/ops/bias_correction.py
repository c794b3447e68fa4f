"""Rounding weights moves a channel's mean; what it moved is taken back (Nagel et al. 2019, arXiv:1906.04721, 4.2)."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lessen.ops import layers, ties
from lessen.ops.graph import norm_pairs
from lessen.ops.modes import evaluating
from lessen.ops.watching import Place, watching

SAMPLES = 256


class Seen(NamedTuple):
    """Of one layer: the mean output (c,) of each channel over all its calls, and how many calls a pass makes."""

    mean: Tensor
    calls: int


class _Stop(Exception): ...


def correct(model: nn.Module, reference: nn.Module, x: Tensor) -> dict[str, float]:
    """Give every quantized layer of `model` the channel means that it has in `reference`, over the first samples of x.

    Layer after layer in the order of computing, each seen with those before it corrected already. Batch norm behind a
    layer takes the shift in its running mean, else the bias takes it; a layer with neither is left to the next one.
    Returns the largest shift of each layer corrected.
    """
    device = next(p.device for p in model.parameters())
    x = x[:SAMPLES].to(device)
    norms = {conv: model.get_submodule(norm) for norm, conv in norm_pairs(model).items()}
    tied = {name for names in ties.ties(model) for name in names}
    expected = _means(reference, list(layers.weighted(model)), x)
    shifts = {}
    for path, (mean, calls) in expected.items():
        layer, norm = layers.weighted(model)[path], norms.get(path)
        movable = layer.bias is not None and f"{path}.bias" not in tied  # another layer has a shift of its own
        if layer.wq is None or not (movable or norm is not None):
            continue
        found = _means(model, [path], x, stop=calls == 1).get(path)
        if found is None:  # a net that chooses its layers by what it sees
            continue
        shift = found.mean - mean
        with torch.no_grad():
            if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
                norm.running_mean.add_(shift)
            elif movable and layer.bias is not None:
                layer.bias.sub_(shift)
        shifts[path] = float(shift.abs().max())
    return shifts


def _means(model: nn.Module, paths: list[str], x: Tensor, *, stop: bool = False) -> dict[str, Seen]:
    """What these layers give, in the order of computing; `stop` behind the first call of one of them."""
    sums: dict[str, list[Tensor]] = {}
    counts: dict[str, int] = {}

    def add(place: Place, y: Tensor) -> None:
        path, channel = place[1], 1 if isinstance(model.get_submodule(place[1]), nn.Conv2d) else y.dim() - 1
        sums.setdefault(path, []).append(y.sum([d for d in range(y.dim()) if d != channel]))
        counts[path] = counts.get(path, 0) + y.numel() // y.shape[channel]  # a call may see parts of images
        if stop:
            raise _Stop

    parts = x.split(64)
    with watching(model, [("out", path) for path in paths], add), evaluating(model), torch.inference_mode():
        for part in parts:
            with suppress(_Stop):
                model(part)
    return {
        path: Seen(torch.stack(found).sum(0).clone() / counts[path], len(found) // len(parts))
        for path, found in sums.items()
        if counts[path]
    }
