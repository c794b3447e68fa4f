"""Models of the user's own: `package.module:function(args)` is imported, called and looked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn

from lessen.core.errors import BadField, LessenError, UnknownName
from lessen.models import imported
from lessen.ops import chance, layers
from lessen.ops.modes import evaluating


def build_users(name: str, args: dict[str, Any], shape: tuple[int, ...], classes: int) -> nn.Module:
    """Call the function with `args`, and with shape and classes where it has parameters of these names.

    Errors: BadField naming what could not be imported, called or used; UnknownName for a missing function.
    """
    function = _function(name)
    try:
        parameters = signature(function).parameters
    except (TypeError, ValueError):
        parameters = {}
    every = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
    offered = {k: v for k, v in (("shape", shape), ("classes", classes)) if every or k in parameters}
    try:
        model = function(**{**offered, **args})
    except LessenError:
        raise
    except Exception as e:  # whatever the user's code raises
        raise BadField(f"'{name}' failed: {imported.line(e)}; call it yourself with { ({**offered, **args}) }") from e
    if not isinstance(model, nn.Module):
        raise BadField(f"'{name}' returned a {type(model).__name__}; return a torch.nn.Module")
    _try(name, model, shape, classes)
    return model


def _function(name: str) -> Callable[..., Any]:
    path, _, attribute = name.partition(":")
    module = imported.module(path, "model", name)
    found = getattr(module, attribute, None)
    if found is None:
        public = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise UnknownName(f"function of {path}", attribute, public)
    if not callable(found):
        raise BadField(f"'{name}' is a {type(found).__name__}; name a function that returns a torch.nn.Module")
    return found


def _try(name: str, model: nn.Module, shape: tuple[int, ...], classes: int) -> None:
    """One sample in evaluation mode and two in training: logits (n, classes) must come out of float32 weights.

    Errors: BadField.
    """
    if halves := layers.of_16_bits(model):
        raise BadField(f"the model of '{name}' has 16-bit weights ({halves}); call .float() on it before you return it")
    with evaluating(model), _moving_nothing(model):
        _forward(name, model, torch.zeros(1, *shape), classes)
        _forward(name, model.train(), torch.zeros(2, *shape), classes)


def _forward(name: str, model: nn.Module, x: torch.Tensor, classes: int) -> None:
    several = "two samples" if model.training else "a sample"
    mode = " in training" if model.training else ""
    try:
        with torch.no_grad():
            y = model(x)
    except Exception as e:  # whatever the user's forward raises
        raise BadField(
            f"the model of '{name}' cannot take {several} of shape {tuple(x.shape[1:])}{mode}: {imported.line(e)}"
        ) from e
    got, wanted = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__, (len(x), classes)
    if got != wanted:
        mend = f"logits of shape {wanted}" + (" alone, as in evaluation: leave an auxiliary head's out" if mode else "")
        raise BadField(f"the model of '{name}' gives {got} for {several.replace('a ', 'one ')}{mode}; give {mend}")


@contextmanager
def _moving_nothing(model: nn.Module) -> Iterator[None]:
    """Afterwards running statistics, and the state of every random number generator, are as they were."""
    buffers = [(m._buffers, k, b, b.clone()) for m in model.modules() for k, b in m._buffers.items() if b is not None]
    kept = chance.state(torch.device("cpu"))
    try:
        yield
    finally:
        chance.restore(kept)
        for home, key, buffer, value in buffers:
            home[key] = buffer.copy_(value)
