"""What layers read and produce while a model runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

Place = tuple[str, str]  # "in" or "out", and the path of a layer


def recorded(model: nn.Module, x: Tensor, places: Iterable[Place]) -> tuple[Tensor, dict[Place, list[Any]]]:
    """The output for x (n, ...), and at every place one item a call: all arguments ("in") or the result ("out")."""
    seen: dict[Place, list[Any]] = defaultdict(list)

    def look(place: Place) -> Any:
        return lambda module, arguments, result=None: seen[place].append(arguments if result is None else result)

    handles = []
    for place in dict.fromkeys(places):
        module = model.get_submodule(place[1])
        register = module.register_forward_pre_hook if place[0] == "in" else module.register_forward_hook
        handles.append(register(look(place)))
    try:
        with torch.inference_mode():
            return model(x), dict(seen)
    finally:
        for handle in handles:
            handle.remove()
