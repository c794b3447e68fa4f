"""Parameters that stand in more than one layer (`b.weight = a.weight`): trained as one, so kept and stored as one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lessen.core.errors import BadArtifact


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
