"""What layers read and produce while a model runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Place = tuple[str, str]  # "in" or "out", and the path of a layer


@contextmanager
def watching(model: nn.Module, places: Iterable[Place], see: Callable[[Place, Any], object]) -> Iterator[None]:
    """Within the block, every call shows all its arguments ("in") or its result ("out")."""

    def look(place: Place) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], result: Any = None) -> None:
            see(place, arguments if result is None else result)

        return hook

    handles = []
    try:
        for place in dict.fromkeys(places):
            module = model.get_submodule(place[1])
            register = module.register_forward_pre_hook if place[0] == "in" else module.register_forward_hook
            handles.append(register(look(place)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_view(value: Tensor, n: int) -> Tensor:
    """What a layer gives for n samples, where the model sees each in several views, side by side in its batch: (n, ...)
    for the first of them, the sample as it is."""
    return value if len(value) == n or len(value) % n else value.unflatten(0, (n, -1))[:, 0]


def recorded(model: nn.Module, x: Tensor, places: Iterable[Place]) -> tuple[Tensor, dict[Place, list[Any]]]:
    """The output for x (n, ...), and at every place one item a call."""
    seen: dict[Place, list[Any]] = defaultdict(list)
    with watching(model, places, lambda place, value: seen[place].append(value)), torch.inference_mode():
        return model(x), dict(seen)
