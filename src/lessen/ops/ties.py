"""Parameters that stand in more than one layer (`b.weight = a.weight`): trained as one, so masked and stored as one.

What would need another weight in each of them (fewer channels, factors) leaves such layers whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from lessen.core.errors import BadArtifact
from lessen.ops import layers

Layers = dict[str, layers.Conv2d | layers.Linear]


def ties(model: nn.Module) -> list[list[str]]:
    """Names of parameters that are one, the first in the model's order first; of a module at two paths, its first.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> model[1].weight = model[0].weight
    >>> ties(model)
    [['0.weight', '1.weight']]
    """
    names: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for name, value in module._parameters.items():
            if value is not None:
                names.setdefault(id(value), []).append(f"{path}.{name}" if path else name)
    return [found for found in names.values() if len(found) > 1]


def tie(model: nn.Module, tied: Sequence[Sequence[str]]) -> None:
    """Make parameters of these names one again, in place. Errors: BadArtifact for a name that is not there."""
    for first, *others in tied:
        for name in others:
            path, _, last = name.rpartition(".")
            try:
                value, owner = model.get_parameter(first), model.get_submodule(path)
            except AttributeError:
                raise BadArtifact(f"structure.json ties '{name}' to '{first}', and one of them is not there") from None
            owner.register_parameter(last, value)


def homes(model: nn.Module) -> dict[str, list[str]]:
    """First path of every module -> all paths at which it stands."""
    found: dict[int, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        found.setdefault(id(module), []).append(path)
    return {paths[0]: paths for paths in found.values()}


def shared(model: nn.Module) -> set[int]:
    """The ids of parameters that stand in more than one layer."""
    return {id(model.get_parameter(names[0])) for names in ties(model)}


def holds(part: nn.Module | nn.Parameter, shared: set[int]) -> bool:
    """Whether a layer, or a bare parameter, is or has one of them."""
    own = [part] if isinstance(part, nn.Parameter) else part.parameters(recurse=False)
    return any(id(p) in shared for p in own)


def tied_layers(model: nn.Module) -> list[list[str]]:
    """Paths of our layers that have one weight between them, the first in the model's order first."""
    paths: dict[int, list[str]] = {}
    for path, layer in layers.weighted(model).items():
        paths.setdefault(id(layer.weight), []).append(path)
    return [found for found in paths.values() if len(found) > 1]


def once(model: nn.Module) -> Layers:
    """Our convolution and linear layers by path; of those that share a weight the first."""
    found: dict[int, str] = {}
    weighted = layers.weighted(model)
    for path, layer in weighted.items():
        found.setdefault(id(layer.weight), path)
    return {path: weighted[path] for path in found.values()}


def tie_scales(model: nn.Module) -> None:
    """Layers that share a weight, and quantize it alike, learn one scale for it: so the file holds it once."""
    weighted = layers.weighted(model)
    for first, *others in tied_layers(model):
        for path in others:
            one, other = weighted[first].wq, weighted[path].wq
            if type(one) is type(other) and one is not None and one.spec() == other.spec():
                scales = getattr(one, "scale", None), getattr(other, "scale", None)
                if all(isinstance(s, nn.Parameter) for s in scales) and torch.equal(*scales):  # type: ignore[arg-type]
                    other.scale = one.scale
