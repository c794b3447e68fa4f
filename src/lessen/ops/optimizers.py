"""Which optimizer moves which parameter, and which parameters decay.

Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; its step is scaled to AdamW's size
(Liu et al. 2025, arXiv:2502.16982), so one learning rate serves both. muon-unit, as airbench trains (the same author,
arXiv:2404.00498), keeps the rows of a weight at unit length, and its step is a share of them: for nets where a norm
follows each hidden layer, which takes its weight's size away. Quantizers' scales move in their logarithm
(Jain et al. 2020, arXiv:1903.08066).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from lessen.core.errors import Refused
from lessen.ops import graph, layers

Name = Literal["sgd", "adamw", "muon", "muon-unit"]
CALM = 0.1  # of the learning rate, for biases and norms beside muon-unit: a step of Adam's is the rate itself
LARGEST = 0.01  # most that a scale's logarithm moves in a step: at ten times that, whole rows end up clipped at lr 0.2
MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass
class Parameters:
    """A model's trained parameters by how they are treated."""

    matrices: list[nn.Parameter] = field(default_factory=list)  # hidden weights (out, in, ...): decay, Muon's
    others: list[nn.Parameter] = field(default_factory=list)  # embeddings and the head: decay
    free: list[nn.Parameter] = field(default_factory=list)  # biases and norms: no decay
    scales: list[nn.Parameter] = field(default_factory=list)  # of quantizers: no decay, always LogSGD


def sort(model: nn.Module, head: nn.Module | None) -> Parameters:
    """Every parameter that wants a gradient, once."""
    found, seen = Parameters(), set()
    for module in model.modules():
        for value in module.parameters(recurse=False):
            if not value.requires_grad or value in seen:
                continue
            seen.add(value)
            if isinstance(module, layers.Quantizer):
                found.scales.append(value)
            elif value.dim() < 2 or isinstance(module, nn.LayerNorm):
                found.free.append(value)
            elif isinstance(module, MATRICES) and module is not head:
                found.matrices.append(value)
            else:
                found.others.append(value)
    return found


def optimizer(model: nn.Module, name: Name, lr: float, momentum: float, weight_decay: float) -> Optimizer:
    """One optimizer over all of the model; `momentum` is Adam's first beta. Rates are set by `set_lr`.

    Errors: Refused for muon-unit where a quantizer has scales for the weights' size, and where nothing may move.
    """
    if name == "muon-unit" and any(layer.wq is not None for layer in layers.weighted(model).values()):
        raise Refused("optimizer='muon-unit' changes the size of weights, and their quantizers do not; use 'muon'")
    muon = name in ("muon", "muon-unit")
    p = sort(model, graph.last(model, MATRICES) if muon else None)
    matrices = p.matrices if muon else []
    decayed = p.others if muon else p.matrices + p.others
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": p.free, "weight_decay": 0.0, "share": CALM if name == "muon-unit" else 1.0},
    ]
    groups = [g for g in groups if g["params"]]
    parts: list[Optimizer] = []
    if groups and name == "sgd":
        parts.append(SGD(groups, lr=lr, momentum=momentum))
    elif groups:
        parts.append(AdamW(groups, lr=lr, betas=(momentum, 0.999)))
    if matrices:
        parts.append(Muon(matrices, lr, momentum, weight_decay, unit=name == "muon-unit"))
    if p.scales:
        parts.append(LogSGD(p.scales, lr, momentum))
    if not parts:
        raise Refused("every parameter of the model is frozen (requires_grad=False); unfreeze what is to be trained")
    found = parts[0] if len(parts) == 1 else Joint(parts)
    set_lr(found, lr)
    return found


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Every group's learning rate: all of it, or the group's share."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)


class Joint(Optimizer):
    """Several optimizers that step as one: gradient scaling and clipping must see all parameters at once."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = tuple(parts)
        super().__init__([g for part in self.parts for g in part.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [g for part in self.parts for g in part.param_groups]


class LogSGD(Optimizer):
    """SGD's step with momentum, taken in the logarithm: values stay positive and move by a hundredth at most.

    The step itself is as long as SGD's, which LSQ's gradients are made for: by d loss / d log p, a scale of 0.01 would
    move 10,000 times less than its weights do. It is so beside Adam and Muon, too: Adam's is as long whatever the
    gradient, and that of a scale in many bits is mostly what rounding happens to leave.
    """

    def __init__(self, params: Sequence[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            kept = state.get("momentum", torch.zeros_like(p))
            state["momentum"] = kept * group["momentum"] + p.grad
            step = state["momentum"] / p.clamp(min=1e-12)  # a dead row's scale is 0, and stays so
            p.mul_((-group["lr"] * step).clamp(-LARGEST, LARGEST).exp())


class Muon(Optimizer):
    """Muon for weights (out, ...) of any rank, each seen as a matrix (out, rest), with Nesterov's momentum.

    unit: each weight has the norm of rows of unit length, sqrt(out), before every step, and no decay; its step is
    scaled as the author's, sqrt(max(1, out / rest)), not to AdamW's size.
    """

    def __init__(
        self, params: Sequence[nn.Parameter], lr: float, momentum: float, weight_decay: float, unit: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0 if unit else weight_decay})
        for p in params:
            if not (p.is_contiguous() or _channels_last(p)):
                p.data = p.data.contiguous()
        self.unit = unit

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        for p in group["params"]:
            if p.grad is None:
                continue
            weight, gradient = _matrix(p, p), _matrix(p.grad, p)
            if self.unit:
                weight.mul_(len(weight) ** 0.5 / weight.norm().clamp(min=1e-12))
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            step = orthogonal(gradient.lerp(state["momentum"], group["momentum"]))
            rows, columns = weight.shape
            size = max(1.0, rows / columns) ** 0.5 if self.unit else 0.2 * max(rows, columns) ** 0.5
            weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor, steps: int = 5, eps: float = 1e-7) -> Tensor:
    """(m, n) -> (m, n): U S V' becomes about U V', with singular values between 0.7 and 1.2 where they were not tiny.

    Newton-Schulz iterations x <- (a + b xx' + c (xx')^2) x of Jordan's coefficients. The factors share eigenvectors, so
    they are multiplied in the smaller of xx' and x'x, and x itself is touched twice: a third of the operations for a
    matrix nine times as wide as high. Unlike torch's, in float32: not every CPU has products of bfloat16.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.float() if len(matrix) <= matrix.shape[1] else matrix.float().T
    x = x / x.norm().clamp(min=eps)
    gram = x @ x.T
    whole = torch.eye(len(x), device=x.device)
    for left in reversed(range(steps)):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        whole = factor @ whole
        if left:
            gram = factor @ gram @ factor
    x = whole @ x
    return (x if len(matrix) <= matrix.shape[1] else x.T).to(matrix.dtype)


def _matrix(value: Tensor, weight: Tensor) -> Tensor:
    """(out, in, ...) -> (out, rest), the columns in the order of the weight's memory, so that it is a view of it.

    Muon's step turns with its matrix, so the order of the columns does not matter.
    """
    return (value.permute(0, 2, 3, 1) if _channels_last(weight) else value).flatten(1)


def _channels_last(weight: Tensor) -> bool:
    return weight.dim() == 4 and not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)
