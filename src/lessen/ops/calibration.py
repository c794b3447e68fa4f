"""What range does each produced tensor cover? Seen by running calibration samples, before anything is quantized."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lessen.ops.modes import evaluating

Span = tuple[Tensor, Tensor]


def spans(
    model: nn.Module, x: Tensor, *, outputs: Iterable[str] = (), inputs: Iterable[str] = (), share: float = 1.0
) -> tuple[dict[str, Span], dict[str, Span]]:
    """Lowest and highest value of layers' outputs and inputs, by path, over samples x (n, ...).

    share: of each batch's values that the range must cover, split evenly over both ends (1.0 is min-max); ranges of
    batches of 128 are averaged when it is below 1, and joined when it is 1.
    """
    seen: dict[tuple[str, str], list[Span]] = {}

    def look(kind: str, path: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...], result: Tensor | None = None) -> None:
            value = arguments[0] if result is None else result
            seen.setdefault((kind, path), []).append(batch_span(value.detach(), share))

        return hook

    handles = [model.get_submodule(p).register_forward_hook(look("out", p)) for p in outputs]
    handles += [model.get_submodule(p).register_forward_pre_hook(look("in", p)) for p in inputs]
    try:
        with evaluating(model), torch.inference_mode():
            for part in x.split(128):
                model(part)
    finally:
        for handle in handles:
            handle.remove()
    joined = {key: _join(found, share) for key, found in seen.items()}
    return {p: s for (k, p), s in joined.items() if k == "out"}, {p: s for (k, p), s in joined.items() if k == "in"}


def batch_span(values: Tensor, share: float) -> Span:
    """Lowest and highest value, or those that leave (1 - share) / 2 of the values outside at each end."""
    if share >= 1:
        return values.min().clone(), values.max().clone()
    flat = values.flatten().float()
    outside = round(flat.numel() * (1 - share) / 2)
    low = flat.kthvalue(outside + 1).values
    return low.clone(), flat.kthvalue(flat.numel() - outside).values.clone()


def _join(found: list[Span], share: float) -> Span:
    lows, highs = torch.stack([s[0] for s in found]), torch.stack([s[1] for s in found])
    return (lows.amin(), highs.amax()) if share >= 1 else (lows.mean(), highs.mean())
