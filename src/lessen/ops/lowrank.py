"""A weight as the product of two thinner ones: truncated SVD of linear and convolution layers.

Linear (out, in) -> (r, in), (out, r). Convolution (out, in, kh, kw) -> the same kernel to r channels, then 1x1 to out
(Zhang et al. 2016, arXiv:1505.06798). The singular values are split evenly: of all exact factor pairs that one has the
smallest sum of squares, so both factors train at one learning rate and weight decay favours neither.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lessen.ops import layers, ties

By = Literal["energy", "rank"]


class Factors(NamedTuple):
    """first (r, n) and second (m, r); second @ first approximates the matrix (m, n)."""

    first: Tensor
    second: Tensor


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """u (m, k), s (k,), v (k, n) in float64, largest first; the sign makes each u's largest entry positive."""
    u, s, v = torch.linalg.svd(matrix.detach().double(), full_matrices=False)
    sign = torch.sign(u.gather(0, u.abs().argmax(0, keepdim=True))).flatten()
    return u * sign, s, v * sign[:, None]


def rank(s: Tensor, keep: float, by: By) -> int:
    """Singular values to keep: the fewest that hold the share `keep` of their squares, or that share of their number.

    At least one; all of them when keep is 1.

    >>> rank(torch.tensor([3.0, 1.0, 0.0]), 0.9, "energy"), rank(torch.tensor([3.0, 1.0, 0.0, 0.0]), 0.5, "rank")
    (1, 2)
    """
    if keep >= 1:
        return len(s)
    if by == "rank":
        return max(1, round(len(s) * keep))
    share = s.square().cumsum(0)
    return min(len(s), 1 + int((share < keep * share[-1]).sum()))


def rank_within(s: Tensor, error: float) -> int:
    """The fewest singular values whose truncation has at most this relative Frobenius error; at least one.

    >>> [rank_within(torch.tensor([4.0, 3.0]), e) for e in (0.5, 0.6, 0.7)]
    [2, 1, 1]
    """
    left = (s.square().sum() - s.square().cumsum(0)).clamp(min=0).sqrt()
    return min(len(s), 1 + int((left > error * s.square().sum().sqrt() * (1 + 1e-12)).sum()))


def truncated(u: Tensor, s: Tensor, v: Tensor, r: int) -> Factors:
    """The best approximation of rank r (Eckart & Young 1936), singular values split evenly."""
    root = s[:r].sqrt()
    return Factors(root[:, None] * v[:r], u[:, :r] * root)


def relative_error(matrix: Tensor, approximation: Tensor) -> float:
    """Frobenius norm of the difference over that of the matrix; 0 for a matrix of zeros that stays so."""
    norm, difference = matrix.double().norm(), (matrix.double() - approximation.double()).norm()
    return float(difference / norm) if norm > 0 else float(difference)


Layer = layers.Conv2d | layers.Linear


class Target(NamedTuple):
    """Where a factorization can stand: a layer, or the pair that an earlier one made of it."""

    path: str
    module: nn.Module
    first: Layer
    second: Layer | None

    def matrix(self) -> Tensor:
        """The effective weight (out, rest) in float64, multiplied out for a pair."""
        weight = self.first.effective_weight().detach().double().flatten(1)
        return weight if self.second is None else self.second.effective_weight().detach().double().flatten(1) @ weight

    @property
    def last(self) -> Layer:
        return self.second or self.first

    def weights(self) -> int:
        return self.first.weight.numel() + (0 if self.second is None else self.second.weight.numel())

    def masked(self) -> bool:
        return self.first.mask is not None or self.last.mask is not None


def targets(model: nn.Module) -> tuple[list[Target], dict[str, list[str]]]:
    """All layers and earlier pairs inside the model; and reason -> paths of layers that cannot be factored."""
    found: list[Target] = []
    fixed: dict[str, list[str]] = {}
    inside: set[nn.Module] = {model}
    shared = ties.shared(model)
    for path, module in model.named_modules():
        if module in inside:
            continue
        pair = _pair(module)
        if isinstance(module, layers.Conv2d | layers.Linear) and id(module.weight) in shared:
            fixed.setdefault("layers that share a weight, which factors would part", []).append(path)
        elif pair is not None and not any(id(layer.weight) in shared for layer in pair):
            found.append(Target(path, module, *pair))
            inside.update(pair)
        elif isinstance(module, layers.Conv2d) and (module.groups > 1 or module.padding_mode != "zeros"):
            fixed.setdefault("grouped convolutions", []).append(path)
        elif isinstance(module, layers.Conv2d | layers.Linear):
            found.append(Target(path, module, module, None))
    return found, fixed


def _pair(module: nn.Module) -> tuple[Layer, Layer] | None:
    """The two layers of a Sequential that compute one linear map: nothing between them but a quantizer."""
    if type(module) is not nn.Sequential or len(module) != 2:
        return None
    first, second = module
    if isinstance(first, layers.Linear) and isinstance(second, layers.Linear):
        return (first, second) if first.bias is None else None
    if not (isinstance(first, layers.Conv2d) and isinstance(second, layers.Conv2d)):
        return None
    pointwise = (second.kernel_size, second.stride, second.padding, second.groups) == ((1, 1), (1, 1), (0, 0), 1)
    simple = first.bias is None and first.groups == 1 and first.padding_mode == "zeros"
    return (first, second) if pointwise and simple else None


def bits(target: Target, r: int | None = None) -> int:
    """Stored bits of the weights and of their quantizers: now, or after factoring to rank r."""
    m, n = len(target.last.weight), target.first.weight[0].numel()
    shapes = [(target.first, r, n), (target.last, m, r)]
    if r is None:
        parts = [target.first] if target.second is None else [target.first, target.second]
        shapes = [(p, len(p.weight), p.weight[0].numel()) for p in parts]
    between = 32 * (len(shapes) - 1) if target.first.wq is not None else 0  # the scale of the tensor between them
    return between + sum(_stored_bits(layer, rows, columns) for layer, rows, columns in shapes)


def saves(target: Target, r: int) -> bool:
    """Whether rank r has fewer weights (which is as good as fewer multiplications) and fewer bits than now."""
    m, n = len(target.last.weight), target.first.weight[0].numel()
    return r * (m + n) < target.weights() and bits(target, r) < bits(target)


def affordable(target: Target, keep: float) -> int:
    """The largest rank whose factors have at most the share `keep` of the layer's weights; at least one."""
    m, n = len(target.last.weight), target.first.weight[0].numel()
    return max(1, min(m, n, int(keep * target.weights() / (m + n) + 1e-9)))


def factored(target: Target, factors: Factors) -> nn.Sequential:
    """The two layers: the first reads as before, the second adds the bias and hands on to the old output slot.

    The kind of weight goes to both with fresh scales. The tensor between them gets no static quantizer here: that
    needs calibration.
    """
    old, last, r = target.first, target.last, len(factors.first)
    if isinstance(old, layers.Conv2d):
        first = layers.Conv2d(old.in_channels, r, old.kernel_size, old.stride, old.padding, old.dilation, bias=False)  # type: ignore[arg-type]
        second: Layer = layers.Conv2d(r, len(last.weight), 1, bias=last.bias is not None)
    else:
        first = layers.Linear(old.in_features, r, bias=False)
        second = layers.Linear(r, last.weight.shape[0], bias=last.bias is not None)
    for layer, value, like in ((first, factors.first, old), (second, factors.second, last)):
        weight = value.reshape(layer.weight.shape).to(like.weight)
        layer.weight = nn.Parameter(weight.contiguous(), like.weight.requires_grad)
        if like.wq is not None:
            layer.wq = like.wq.refit(layer)
    second.bias = last.bias
    first.iq, second.oq = old.iq, last.oq
    if isinstance(old.iq, layers.DynamicQuantizer):
        second.iq = layers.DynamicQuantizer(old.iq.bits)  # its range is that of what comes: nothing to calibrate
    return nn.Sequential(first, second).train(target.module.training)


def replace(model: nn.Module, changed: dict[nn.Module, nn.Module]) -> None:
    """Put new modules wherever the old ones stand, also where one stands twice."""
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child in changed:
                parent._modules[name] = changed[child]


def _stored_bits(layer: Layer, rows: int, columns: int) -> int:
    """Bits of a weight (rows, columns) with its scales, stored as this layer's is."""
    if layer.wq is None:
        return rows * columns * layer.weight.element_size() * 8
    return rows * columns * layer.wq.stored_bits + layer.wq.scale_bits(rows, columns)
