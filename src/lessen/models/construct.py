"""Calls a zoo builder after checking its arguments against the types and ranges in its own signature."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from lessen.core.errors import BadField
from lessen.core.technique import field_error
from lessen.models.zoo import ZOO

if TYPE_CHECKING:
    from torch import nn


def construct(name: str, args: dict[str, Any], shape: tuple[int, ...], classes: int) -> nn.Module:
    """Build zoo model `name`. Errors: UnknownName for a field it lacks, BadField for a value it cannot take."""
    entry = ZOO[name]
    for field in args.keys() & entry.fixed.keys():
        family = next((k for k, e in ZOO.items() if e.function == entry.function and not e.fixed), None)
        mend = f"write {family}({field}={args[field]!r})" if family else "leave it out"
        raise BadField(f"{name}.{field} is fixed to {entry.fixed[field]!r} by the name; {mend}")
    kind = arguments(name)
    try:
        checked = dict(kind(**args))
    except ValidationError as e:
        raise field_error(name, kind, e) from None
    return _function(name)(shape, classes, **{**entry.fixed, **checked})


def arguments(name: str) -> type[BaseModel]:
    """The builder's keyword arguments as a pydantic model, less those that the name fixes."""
    function, fixed = _function(name), ZOO[name].fixed
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        k: (hints[k], p.default)
        for k, p in signature(function).parameters.items()
        if p.kind is p.KEYWORD_ONLY and k not in fixed
    }
    return create_model(name, __config__=ConfigDict(extra="forbid", strict=True), **fields)


def _function(name: str) -> Any:
    return getattr(import_module(f"lessen.models.{ZOO[name].file}"), ZOO[name].function)
