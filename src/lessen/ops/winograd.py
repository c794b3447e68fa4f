"""Convolutions of 3 x 3 by minimal filtering, forward and backward (Lavin & Gray 2016, arXiv:1509.09308).

y = A [(G g G') * (B d B')] A' for tiles d of the image: a tile of 4 x 4 outputs takes 36 products for each pair of
channels instead of 144. Each tile's products are a matrix product over channels, so a CPU computes them as fast as it
multiplies matrices. The matrices come from Toom-Cook's points by exact transposition of polynomial multiplication.

Of 16-bit floats only the products are: tiles are made and joined in float32, and are small, by points of least error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from lessen.ops import devices

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity, for tiles of up to 6 outputs in one dimension
SEVEN = (0.35, -0.35, 0.75, -0.75, 1.2, -1.2, 2.4, -2.4)  # for 7: of several sets tried, the one with the least error
LARGEST = 7  # more would cost float32 its digits
COARSE = {  # for products of bfloat16: of some 250 sets each the least error, 0.9, 1.5 and 3.2 % of the outputs
    3: (0.4, -0.4, 1.3, -1.3), 4: (0.0, 0.65, -0.65, 1.5, -1.5), 5: (0.3, -0.3, 0.8, -0.8, 1.7, -1.7),
}  # fmt: skip
LEAST, PAIRS = 64, 64 * 256  # channels on either side, and pairs, below which the direct convolution is as fast
NARROW, SMALL = 256, 5  # in bfloat16: the fewest channels on either side, and the most pixels of a side


@dataclass(frozen=True)
class Filter:
    """How one dimension of `size` pixels is cut: `count` tiles of m outputs from n inputs by p products.

    to_tile (p, n), to_kernel (p, 3), to_output (m, p).
    """

    size: int
    count: int
    to_tile: np.ndarray
    to_kernel: np.ndarray
    to_output: np.ndarray

    @property
    def outputs(self) -> int:
        return len(self.to_output)

    @property
    def halo(self) -> int:
        """Pixels of zeros before the first tile: none where the matrices know that they are zero."""
        return (self.to_tile.shape[1] - self.outputs) // 2


@cache
def minimal(size: int, coarse: bool = False) -> Filter:
    """The filter of fewest products for so many pixels between zeros; coarse: for products of bfloat16."""
    if size == 2:  # three products, as Karatsuba's: g1 (x0 + x1), (g2 - g1) x1, (g0 - g1) x0
        tile, kernel = [[1, 1], [0, 1], [1, 0]], [[0, 1, 0], [0, -1, 1], [1, -1, 0]]
        return Filter(2, 1, np.array(tile, float), np.array(kernel, float), np.array([[1, 1, 0], [1, 0, 1]], float))
    m = min(COARSE if coarse else range(2, LARGEST + 1), key=lambda m: (-(-size // m) * (m + 2), m))
    count = -(-size // m)
    points = COARSE[m] if coarse else SEVEN if m == 7 else POINTS[: m + 1]
    tile = np.linalg.inv(_powers(points, m + 2)).T
    kernel, output = _powers(points, 3), _powers(points, m).T
    scale = np.abs(tile).max(1)
    scale = 2.0 ** np.round(np.log2(scale))  # both factors of a product of like size, by powers of two
    tile, kernel = tile / scale[:, None], kernel * scale[:, None]
    return Filter(size, count, tile[:, 1:-1] if count == 1 and m == size else tile, kernel, output)


def _powers(points: tuple[float, ...], count: int) -> np.ndarray:
    """(points + 1, count): each point's powers from 0, then those of infinity: the last alone."""
    return np.vstack((np.vander(points, count, increasing=True), np.eye(count)[-1:]))


def conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """Images (n, c, h, w) by (o, c, 3, 3) -> (n, o, h, w), one pixel of zeros around, channels last.

    Equal to the direct convolution but for rounding: within 2e-5 of the largest value in float32, and 1e-4 for tiles of
    7 outputs. Images in bfloat16 give bfloat16: off by 0.6 to 3.2 % (root mean square) at 2 to 5 pixels a side.
    """
    return _Convolution.apply(x, weight)  # type: ignore[no-any-return]


class _Call(NamedTuple):
    """What torch.conv2d was called with."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None = None
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1

    @property
    def suits(self) -> bool:
        """Whether `conv2d` computes this convolution, and it pays."""
        x, weight = self.x, self.weight
        return (
            _suits(weight, self.stride, self.padding, self.dilation, self.groups)
            and x.dim() == 4 and x.shape[1] == weight.shape[1] and min(x.shape[2:]) >= 2
            and x.device.type == "cpu" and weight.dtype == torch.float32
            and (self._suits_narrow if torch.is_autocast_enabled("cpu") else x.dtype == torch.float32)
        )  # fmt: skip

    @property
    def _suits_narrow(self) -> bool:
        """Whether it pays in bfloat16, which direct convolutions multiply twice as fast where the CPU has it."""
        return (
            min(self.weight.shape[:2]) >= NARROW and max(self.x.shape[2:]) <= SMALL
            and torch.get_autocast_dtype("cpu") == torch.bfloat16 and not devices.emulated("bf16")
        )  # fmt: skip


def pays(model: nn.Module) -> bool:
    """Whether a layer of the model is computed otherwise within `Quick`, which costs every call some microseconds."""
    return any(
        _suits(m.weight, m.stride, m.padding, m.dilation, m.groups) for m in model.modules() if isinstance(m, nn.Conv2d)
    )


def _suits(weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> bool:
    out, inn, *kernel = weight.shape
    return (
        kernel == [3, 3] and groups == 1 and _is(stride, 1) and _is(padding, 1) and _is(dilation, 1)
        and min(out, inn) >= LEAST and out * inn >= PAIRS
    )  # fmt: skip


def _is(value: Any, wanted: int) -> bool:
    return value in (wanted, (wanted,), (wanted, wanted), [wanted], [wanted, wanted])


class Quick(TorchFunctionMode):
    """Within this context, convolutions that suit are computed by `conv2d`, whoever asks for them."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and not kwargs:
            call = _Call(*args)
            if call.suits:
                y = conv2d(call.x.bfloat16() if torch.is_autocast_enabled("cpu") else call.x, call.weight)
                return y if call.bias is None else y + call.bias[:, None, None].to(y.dtype)
        return func(*args, **(kwargs or {}))


class _Convolution(torch.autograd.Function):
    """Everything between the matrix products is linear, so gradients go through the same matrices transposed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        n, _, h, w = x.shape
        ctx.shape, ctx.dtype = x.shape, x.dtype
        rows, columns, (tile, kernel, output) = _ways(h, w, x.dtype)
        tiles = _cut(x.permute(0, 2, 3, 1), rows, columns).float()  # (r q, n th tw, c)
        tiles = (tile @ tiles.flatten(1)).view(len(tile), -1, x.shape[1]).to(x.dtype)
        kernels = (kernel @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(len(kernel), x.shape[1], -1).to(x.dtype)
        ctx.save_for_backward(tiles, kernels)
        products = torch.bmm(tiles, kernels).float()
        return _join((output @ products.flatten(1)).to(x.dtype), n, rows, columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        tiles, kernels = ctx.saved_tensors
        n, c, h, w = ctx.shape
        rows, columns, (tile, kernel, output) = _ways(h, w, ctx.dtype)
        products = output.T @ _split(grads[0].permute(0, 2, 3, 1), rows, columns).float()
        products = products.view(len(tile), -1, grads[0].shape[1]).to(ctx.dtype)
        x = weight = None
        if ctx.needs_input_grad[0]:
            x = tile.T @ torch.bmm(products, kernels.transpose(1, 2)).float().flatten(1)
            x = _paste(x.to(ctx.dtype), n, c, rows, columns)
        if ctx.needs_input_grad[1]:
            weight = kernel.T @ torch.bmm(tiles.transpose(1, 2), products).float().flatten(1)
            weight = weight.view(3, 3, c, -1).permute(3, 2, 0, 1)
        return x, weight


def _ways(h: int, w: int, dtype: torch.dtype) -> tuple[Filter, Filter, tuple[Tensor, Tensor, Tensor]]:
    """How rows and columns are cut for products of this type, and both together."""
    coarse = dtype != torch.float32
    return minimal(h, coarse), minimal(w, coarse), _matrices(h, w, coarse)


@cache
def _matrices(h: int, w: int, coarse: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Both dimensions' matrices as one each, over pixels in row order: tiles, kernels, outputs."""
    a, b = minimal(h, coarse), minimal(w, coarse)
    pairs = (a.to_tile, b.to_tile), (a.to_kernel, b.to_kernel), (a.to_output, b.to_output)
    tile, kernel, output = (torch.from_numpy(np.kron(*pair)).float() for pair in pairs)
    return tile, kernel, output


def _cut(x: Tensor, rows: Filter, columns: Filter) -> Tensor:
    """Images (n, h, w, c) -> (pixels of a tile, n * tiles, c)."""
    size = [(f.halo, f.count * f.outputs - f.size + f.halo) for f in (columns, rows)]
    x = torch.nn.functional.pad(x, (0, 0, *size[0], *size[1]))
    for at, f in ((1, rows), (2, columns)):
        x = x.unfold(at, f.to_tile.shape[1], f.outputs)
    return x.permute(4, 5, 0, 1, 2, 3).reshape(x.shape[4] * x.shape[5], -1, x.shape[3])


def _paste(tiles: Tensor, n: int, c: int, rows: Filter, columns: Filter) -> Tensor:
    """`_cut` transposed: where tiles overlap, they add up. Images (n, c, h, w), channels last."""
    r, q = rows.to_tile.shape[1], columns.to_tile.shape[1]
    tiles = tiles.view(r, q, n, rows.count, columns.count, c)
    if rows.count == columns.count == 1 and not rows.halo and not columns.halo:
        return tiles[:, :, :, 0, 0].permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last)
    high, wide = rows.count * rows.outputs + 2 * rows.halo, columns.count * columns.outputs + 2 * columns.halo
    x = tiles.new_zeros(n, high, wide, c)
    for i in range(r):
        for j in range(q):
            down = slice(i, i + rows.count * rows.outputs, rows.outputs)
            right = slice(j, j + columns.count * columns.outputs, columns.outputs)
            x[:, down, right] += tiles[i, j]
    x = x[:, rows.halo : rows.halo + rows.size, columns.halo : columns.halo + columns.size]
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _join(outputs: Tensor, n: int, rows: Filter, columns: Filter) -> Tensor:
    """Outputs (pixels of a tile, n * tiles * o) -> (n, o, h, w), channels last."""
    outputs = outputs.view(rows.outputs, columns.outputs, n, rows.count, columns.count, -1)
    y = outputs.permute(2, 3, 0, 4, 1, 5).reshape(n, rows.count * rows.outputs, columns.count * columns.outputs, -1)
    return y[:, : rows.size, : columns.size].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def _split(y: Tensor, rows: Filter, columns: Filter) -> Tensor:
    """`_join` transposed: (n, h, w, o) -> (pixels of a tile, n * tiles * o)."""
    more = [f.count * f.outputs - f.size for f in (columns, rows)]
    y = torch.nn.functional.pad(y, (0, 0, 0, more[0], 0, more[1]))
    y = y.view(len(y), rows.count, rows.outputs, columns.count, columns.outputs, -1)
    return y.permute(2, 4, 0, 1, 3, 5).reshape(rows.outputs * columns.outputs, -1)
