"""The layers that one integer kernel computes together, in the order in which they run.

A convolution, its batch norm and the ReLU behind them are one stage: between them an integer file holds no number.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import fx, nn

from lessen.ops import graph, layers

Stage = tuple[str, ...]  # paths of layers, each of which alone reads the one before


def stages(model: nn.Module) -> list[Stage]:
    """All stages of a model of our own layers; of a model that cannot be traced, its weighted layers one by one."""
    traced, modules = graph.trace(model), dict(model.named_modules())
    if traced is None:
        return [(path,) for path in layers.weighted(model)]
    calls = Counter(str(node.target) for node in traced.nodes if node.op == "call_module")
    found: dict[fx.Node, list[str]] = {}
    for node in traced.nodes:
        path = str(node.target)
        if node.op != "call_module" or not isinstance(modules[path], layers._Site):
            continue
        if isinstance(modules[path], graph.PASS):
            continue
        source: Any = next((a for a in node.args if isinstance(a, fx.Node)), None)
        before = found.get(source)
        joined = before is not None and calls[path] == 1 == calls[before[-1]] and _feeds(source, node, modules)
        found[node] = before if joined and before is not None else []
        found[node].append(path)
    unique = {id(paths): tuple(paths) for paths in found.values()}
    return list(dict.fromkeys(unique.values()))


def _feeds(source: fx.Node, node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether the source's only reader is this node, and both are computed at once."""
    return graph._computed_with_reader(modules[str(source.target)], source, modules) and node in source.users
