"""Weights are rounded column after column, and those that are left make up for each error (GPTQ, arXiv:2210.17323).

What counts is the error of a layer's output over calibration samples, tr(E G E'), where E is the error of its weights
(out, columns) and G the Gram matrix of the inputs that they are multiplied with. Rounding each weight to its nearest
level is best only where those inputs are uncorrelated. Columns go in falling order of their inputs' size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lessen.ops import calibration, layers, ties
from lessen.ops.quantizers import WeightQuantizer
from lessen.ops.watching import Place

ROWS = 16  # inputs that are looked at for each column: places of images, of many enough a random part
DAMPING = 0.01  # of the mean of G's diagonal, added to it (the paper's)
BLOCK = 128  # columns whose errors reach the columns behind them together
PASS = 2**28  # numbers in Gram matrices that are gathered in one pass over the samples: 1 GiB
UNFOLDED = 2**25  # numbers of unfolded images at a time


class Error(NamedTuple):
    """Squared error of a layer's output over the samples, as a share of the squared output."""

    nearest: float
    gptq: float


def compensate(model: nn.Module, reference: nn.Module, x: Tensor, paths: Sequence[str]) -> dict[str, Error]:
    """Move the weights of these quantized layers onto levels, in place, as samples x (n, ...) of `reference` say.

    A row stays at its nearest levels where those are better. Layers that share a weight, and layers that are not run,
    are left alone and are not in what is returned.
    """
    shared = ties.shared(model)
    found: dict[str, Error] = {}
    for part in _passes(model, [path for path in paths if not ties.holds(model.get_submodule(path), shared)]):
        for path, gram in grams(reference, x, part).items():
            layer = layers.weighted(model)[path]
            found[path] = _move(layer, gram.to(layer.weight.device))
    return found


def _passes(model: nn.Module, paths: Sequence[str]) -> Iterator[list[str]]:
    """Layers whose Gram matrices fit into memory together; one at least."""
    weighted, part, numbers = layers.weighted(model), [], 0
    for path in paths:
        groups, columns = _shape(weighted[path])
        if part and numbers + groups * columns**2 > PASS:
            yield part
            part, numbers = [], 0
        part, numbers = [*part, path], numbers + groups * columns**2
    if part:
        yield part


def _shape(layer: layers.Conv2d | layers.Linear) -> tuple[int, int]:
    """Groups, and the columns of a row."""
    return getattr(layer, "groups", 1), layer.weight[0].numel()


def grams(model: nn.Module, x: Tensor, paths: Sequence[str]) -> dict[str, Tensor]:
    """Path -> Gram matrices (groups, columns, columns) of what a layer's rows are multiplied with, over samples x."""
    weighted, batches = layers.weighted(model), len(x.split(calibration.BATCH))
    chance = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}

    def see(place: Place, value: Tensor) -> None:
        layer = weighted[place[1]]
        most = -(-ROWS * layer.weight[0].numel() // batches)
        for rows in inputs(layer, value.float(), most, chance):
            if place[1] not in found:
                found[place[1]] = torch.zeros(len(rows), rows.shape[2], rows.shape[2], device=rows.device)
            found[place[1]].baddbmm_(rows.mT, rows)

    calibration.watch(model, x, [("in", path) for path in paths], see)
    return found


def inputs(layer: layers.Conv2d | layers.Linear, x: Tensor, most: int, chance: torch.Generator) -> Iterator[Tensor]:
    """What rows are multiplied with, (groups, n, columns) in parts: about `most` of all, the same places of images."""
    if isinstance(layer, nn.Linear):
        rows = x.flatten(0, -2)
        yield (rows if len(rows) <= most else rows[_some(len(rows), most, chance)])[None]
        return
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    (h, w), (sh, sw), (dh, dw) = layer.kernel_size, layer.stride, layer.dilation
    places = ((x.shape[2] - dh * (h - 1) - 1) // sh + 1) * ((x.shape[3] - dw * (w - 1) - 1) // sw + 1)
    at = _some(places, max(1, most // len(x)), chance)
    for part in x.split(max(1, UNFOLDED // (x.shape[1] * h * w * places))):
        columns = nn.functional.unfold(part, layer.kernel_size, layer.dilation, 0, layer.stride)[:, :, at]
        yield columns.unflatten(1, (layer.groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)


def _some(n: int, most: int, chance: torch.Generator) -> Tensor:
    return torch.arange(n) if n <= most else torch.randperm(n, generator=chance)[:most]


@torch.no_grad()
def _move(layer: layers.Conv2d | layers.Linear, gram: Tensor) -> Error:
    """Give the layer weights on its levels."""
    quantizer: WeightQuantizer = layer.wq
    groups = len(gram)

    def grouped(value: Tensor) -> Tensor:  # (groups, rows, columns)
        return value.expand_as(layer.weight).flatten(1).unflatten(0, (groups, -1)).float()

    weight = grouped(layer.weight.detach())
    scale, zero, _ = quantizer.spread(layer.weight)
    living = None if layer.mask is None else grouped(layer.mask)
    levels = Levels(quantizer, grouped(scale), grouped(torch.as_tensor(zero, device=weight.device)), living)
    nearest, chosen = levels.round(weight), rounded(weight, gram, levels)
    before, after = (squared(gram, weight - w) for w in (nearest, chosen))
    chosen = torch.where((after < before)[..., None], chosen, nearest)
    whole = float(squared(gram, weight).sum().clamp(min=torch.finfo(torch.float32).tiny))
    layer.weight.copy_(chosen.reshape(layer.weight.shape))
    return Error(float(before.sum()) / whole, float(torch.minimum(before, after).sum()) / whole)


class Levels(NamedTuple):
    """Where weights may stand; tensors are (groups, rows, columns). living: 1, or 0 where a weight stays zero."""

    quantizer: WeightQuantizer
    scale: Tensor
    zero: Tensor
    living: Tensor | None

    def round(self, values: Tensor) -> Tensor:
        found = self.quantizer.nearest(values, self.scale, self.zero)
        return found if self.living is None else found * self.living

    def take(self, order: Tensor) -> Levels:
        """With columns in this order, (groups, columns)."""
        living = None if self.living is None else _ordered(self.living, order)
        return Levels(self.quantizer, _ordered(self.scale, order), _ordered(self.zero, order), living)

    def column(self, i: int) -> Levels:
        living = None if self.living is None else self.living[..., i]
        return Levels(self.quantizer, self.scale[..., i], self.zero[..., i], living)


def squared(gram: Tensor, error: Tensor) -> Tensor:
    """e G e' of every row e: (groups, rows)."""
    return ((error @ gram) * error).sum(-1).clamp(min=0)


def rounded(weight: Tensor, gram: Tensor, levels: Levels) -> Tensor:
    """Weights (groups, rows, columns) on levels, with a small `squared` error of the whole rows; see the paper, 3.

    gram: (groups, columns, columns).
    """
    order = gram.diagonal(dim1=-2, dim2=-1).argsort(dim=-1, descending=True, stable=True)
    left, levels = _ordered(weight, order), levels.take(order)
    factor = inverse_factor(_ordered(_ordered(gram, order).mT, order))
    n, found = left.shape[-1], torch.empty_like(left)
    for begin in range(0, n, BLOCK):
        end = min(n, begin + BLOCK)
        errors = torch.empty_like(left[..., begin:end])
        for i in range(begin, end):
            value = left[..., i]
            found[..., i] = levels.column(i).round(value)
            error = (value - found[..., i]) / factor[:, i, i, None]
            left[..., i:end] -= error[..., None] * factor[:, None, i, i:end]
            errors[..., i - begin] = error
        left[..., end:] -= errors @ factor[:, begin:end, end:]
    return torch.empty_like(found).scatter_(-1, order[:, None].expand_as(found), found)


def _ordered(value: Tensor, order: Tensor) -> Tensor:
    return value.gather(-1, order[:, None].expand_as(value))


def inverse_factor(gram: Tensor) -> Tensor:
    """Upper triangular U (groups, n, n) with U'U the inverse of the damped matrix."""
    mean = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    eye = torch.eye(gram.shape[-1], device=gram.device)
    damping = DAMPING * torch.where(mean > 0, mean, 1.0)
    for _ in range(4):  # float32 may have left the matrix indefinite
        lower, wrong = torch.linalg.cholesky_ex((gram + damping * eye).flip(-1, -2))
        if not bool(wrong.any()):
            return torch.linalg.solve_triangular(lower.flip(-1, -2), eye.expand_as(gram), upper=True)
        damping = damping * 10
    return eye.expand_as(gram)  # to the nearest level
