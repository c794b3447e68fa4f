"""Modules of the user's own, for models and tasks: imported, and what their code raises told in a line. No torch."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lessen.core.errors import BadField


def module(path: str, what: str, name: str) -> ModuleType:
    """The module in which a model or a task (`what`), named `name`, is a function. Errors: BadField."""
    try:
        return import_module(path)
    except Exception as e:  # a module may raise anything while it is imported
        raise BadField(
            f"cannot import '{path}' for {what} '{name}': {line(e)}; install it or run lessen in its folder"
        ) from e


def line(error: Exception) -> str:
    """What the user's code raised, in one line of at most some 200 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
