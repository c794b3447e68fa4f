"""Looks into a model and says what it sees: which layers bear compression, and which do not.

>>> found = sensitivity(model, task, ("prune",), goals=("weights_removed=0.7",))  # doctest: +SKIP
>>> write(found, "out/sensitivity")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lessen.inspect.page import write
    from lessen.inspect.survey import check, sensitivity
    from lessen.inspect.words import text

__all__ = ["check", "sensitivity", "text", "write"]

_HOME = {"check": "survey", "sensitivity": "survey", "text": "words", "write": "page"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lessen.inspect' has no attribute '{name}'")
    return getattr(import_module(f"lessen.inspect.{_HOME[name]}"), name)
