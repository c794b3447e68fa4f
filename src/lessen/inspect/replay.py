"""A forward pass that starts where a layer changed: the values before it are remembered, so only what follows is run.

The same operations run on the same tensors as in a whole pass, so the numbers are identical, not merely close.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from lessen.ops import graph

Memory = dict[fx.Node, Any]  # values that some later pass reads


class Replay:
    """Runs a traced model from remembered values on. `paths` are layers, by their path in the model.

    >>> replay = Replay.of(model)
    >>> y, memory = replay.remember(x, [{"conv1"}, {"fc"}])
    >>> logits = replay.run(memory, {"fc"})  # after a change of model.fc
    """

    def __init__(self, model: nn.Module, traced: fx.Graph) -> None:
        self.nodes = list(traced.nodes)
        self.recorder = _Recorder(model, graph=traced)
        self.interpreter = fx.Interpreter(model, graph=traced)

    @staticmethod
    def of(model: nn.Module, sample: Tensor) -> Replay | str:
        """The replay of a model in evaluation mode, or why it has none; tried on `sample` (n, ...)."""
        traced = graph.trace(model)
        if traced is None:
            return "its Python code cannot be traced"
        try:
            replay = Replay(model, traced)
            layers = [{str(n.target)} for n in replay.nodes if n.op == "call_module"]
            with torch.no_grad():
                expected = model(sample)
                y, memory = replay.remember(sample, layers)
                same = all(torch.equal(replay.run(memory, paths), expected) for paths in (*layers[:1], *layers[-1:]))
        except _InPlaceError:
            return "it changes values in place"
        except Exception:  # whatever the user's forward raises when it runs piece by piece
            return "its traced form does not run"
        return replay if same and torch.equal(y, expected) else "its traced form computes other numbers"

    def remember(self, x: Tensor, starts: Iterable[Collection[str]]) -> tuple[Tensor, Memory]:
        """A whole pass of x; keeps what passes that start at any of `starts` will read."""
        self.recorder.keep, self.recorder.kept = set().union(*map(self.reads, starts)), {}
        y, kept = self.recorder.run(x), self.recorder.kept
        self.recorder.kept = {}
        if any(_versions(value) != then for value, then in kept.values()):
            raise _InPlaceError
        return y, {node: value for node, (value, _) in kept.items()}

    def run(self, memory: Memory, paths: Collection[str]) -> Tensor:
        """The model's output after a change of these layers alone."""
        affected = self.affected(paths)
        known = {node: memory.get(node) for node in self.nodes if node not in affected}
        if self.nodes[-1] not in affected:  # nothing that was changed is used
            return memory[self.nodes[-1]]
        return self.interpreter.run(initial_env=known)

    def affected(self, paths: Collection[str]) -> set[fx.Node]:
        """Nodes whose value may change with these layers."""
        found: set[fx.Node] = set()
        for node in self.nodes:
            if any(source in found for source in node.all_input_nodes) or _uses(node, paths):
                found.add(node)
        return found

    def reads(self, paths: Collection[str]) -> set[fx.Node]:
        """Nodes whose values a pass from these layers reads."""
        affected = self.affected(paths)
        if not affected:
            return {self.nodes[-1]}
        return {source for node in affected for source in node.all_input_nodes} - affected


def _uses(node: fx.Node, paths: Collection[str]) -> bool:
    if node.op not in ("call_module", "get_attr"):
        return False
    target = str(node.target)
    return any(target == p or target.startswith(f"{p}.") or p.startswith(f"{target}.") for p in paths)


class _InPlaceError(Exception):
    """A remembered value was written to later."""


class _Recorder(fx.Interpreter):
    keep: set[fx.Node]
    kept: dict[fx.Node, tuple[Any, Any]]  # value, and how often it had been written to

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.keep:
            self.kept[n] = value, _versions(value)
        return value


def _versions(value: Any) -> Any:
    """Torch counts the writes to a tensor."""
    if isinstance(value, Tensor):
        return value._version
    return tuple(map(_versions, value)) if isinstance(value, list | tuple) else None
