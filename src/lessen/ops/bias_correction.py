"""Rounding weights moves a channel's mean; what it moved is taken back (Nagel et al. 2019, arXiv:1906.04721, 4.2)."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn

from lessen.ops import layers, ties
from lessen.ops.graph import norm_pairs
from lessen.ops.modes import evaluating
from lessen.ops.watching import Place, watching

SAMPLES = 256


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
    for path, mean in expected.items():
        layer, norm = layers.weighted(model)[path], norms.get(path)
        movable = layer.bias is not None and f"{path}.bias" not in tied  # another layer has a shift of its own
        if layer.wq is None or not (movable or norm is not None):
            continue
        shift = _means(model, [path], x)[path] - mean
        with torch.no_grad():
            if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None:
                norm.running_mean.add_(shift)
            elif movable and layer.bias is not None:
                layer.bias.sub_(shift)
        shifts[path] = float(shift.abs().max())
    return shifts


def _means(model: nn.Module, paths: list[str], x: Tensor) -> dict[str, Tensor]:
    """Mean output (c,) of each channel of these layers, in the order of computing; stops behind a single one."""
    sums: dict[str, list[Tensor]] = {}

    def add(place: Place, y: Tensor) -> None:
        channel = 1 if isinstance(model.get_submodule(place[1]), nn.Conv2d) else y.dim() - 1
        sums.setdefault(place[1], []).append(y.mean([d for d in range(y.dim()) if d != channel]) * len(y))
        if len(paths) == 1:
            raise _Stop

    n = 0
    with watching(model, [("out", path) for path in paths], add), evaluating(model), torch.inference_mode():
        for part in x.split(64):
            n += len(part)
            with suppress(_Stop):
                model(part)
    return {path: torch.stack(found).sum(0).clone() / n for path, found in sums.items()}
