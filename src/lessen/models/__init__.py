"""The zoo: architectures resolved by text, `resnet20` or `vgg11(width=0.5)` or `package.module:function(x=1)`.

Listing imports no torch; a family's file is imported when one of its models is built.

>>> names()[:2]
('vgg', 'vgg8')
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lessen.core.errors import BadField, UnknownName
from lessen.core.text import Call, parse_call
from lessen.models.zoo import ZOO

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel
    from torch import Tensor, nn

__all__ = ["arguments", "build", "describe", "names", "prepare", "rebuild"]


def names() -> tuple[str, ...]:
    """Every model of the zoo, families side by side."""
    return tuple(ZOO)


def describe(name: str) -> str:
    """One line: which published form this is. Errors: UnknownName."""
    return _entry(name).doc


def arguments(name: str) -> type[BaseModel]:
    """What may stand in brackets behind a name, as fields; imports torch. Errors: UnknownName."""
    _entry(name)
    from lessen.models.construct import arguments

    return arguments(name)


def build(text: str, *, shape: tuple[int, ...] = (3, 32, 32), classes: int = 100) -> nn.Module:
    """A fresh model (n, *shape) -> logits (n, classes); its weights follow from torch's current seed.

    Its `builder` is the call that makes the architecture again.

    >>> build("resnet20(width=0.5)", classes=10).builder.args
    {'width': 0.5, 'shape': (3, 32, 32), 'classes': 10}

    Errors: BadRecipe for text that cannot be read, UnknownName, BadField.
    """
    call = parse_call(text)
    given = [name for name in ("shape", "classes") if name in call.args]
    if given:
        raise BadField(f"{call.name}.{given[0]} comes from the task; leave it out of '{text}'")
    return _make(Call(call.name, {**call.args, "shape": tuple(shape), "classes": classes}))


def prepare(model: nn.Module, images: Callable[[], Tensor]) -> nn.Module:
    """Start what a family starts from data (fast75's whitening), in place; other models are left as they are.

    images: gives some thousand training samples as the model takes them (n, c, h, w), when they are wanted.
    """
    builder = getattr(model, "builder", None)
    if builder is not None and builder.name == "fast75":
        from lessen.models.fast75 import prepare as whiten

        whiten(model, images())
    return model


def rebuild(call: Call) -> nn.Module:
    """The same architecture again from a model's `builder`, also after a trip through JSON; weights are arbitrary.

    The caller's random state stays as it was.
    """
    import torch

    args = {k: _tupled(v) for k, v in call.args.items()}
    with torch.random.fork_rng(devices=[]):
        return _make(Call(call.name, {"shape": (3, 32, 32), "classes": 100, **args}))


def _make(call: Call) -> nn.Module:
    args = dict(call.args)
    shape, classes = args.pop("shape"), args.pop("classes")
    _check(call.name, shape, classes)
    if ":" in call.name:
        from lessen.models.users import build_users as construct
    else:
        _entry(call.name)
        from lessen.models.construct import construct
    model: Any = construct(call.name, args, shape, classes)
    model.builder = call
    return model


def _entry(name: str) -> Any:
    if name not in ZOO:
        raise UnknownName("model", name, ZOO)
    return ZOO[name]


def _check(name: str, shape: Any, classes: Any) -> None:
    """Images of at least one pixel and at least one class; bools are no numbers here."""
    if len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape):
        raise BadField(f"{name}.shape = {shape!r} is no image; give (channels, height, width)")
    if type(classes) is not int or classes < 1:
        raise BadField(f"{name}.classes = {classes!r} is no number of classes; give a whole number of at least 1")


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list | tuple) else value
