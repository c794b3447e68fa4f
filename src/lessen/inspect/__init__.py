"""Looks into a model and says what it sees: which layers bear compression, and what a recipe changed in it.

>>> found = sensitivity(model, task, ("prune",), goals=("weights_removed=0.7",))  # doctest: +SKIP
>>> write(found, "out/sensitivity")  # doctest: +SKIP
>>> write(beside([Shown("original", model), Shown("pruned", pruned)], task), "out/beside")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lessen.inspect.closeness.found import close
    from lessen.inspect.closeness.runs import is_run
    from lessen.inspect.closeness.seeds import seeds
    from lessen.inspect.inside import Inside
    from lessen.inspect.page import write
    from lessen.inspect.request import asked, asked_of_run
    from lessen.inspect.side_by_side import Shown, beside
    from lessen.inspect.stage_errors import errors
    from lessen.inspect.survey import sensitivity
    from lessen.inspect.tensors import distributions
    from lessen.inspect.words import text

__all__ = [
    "Inside", "Shown", "asked", "asked_of_run", "beside", "close", "distributions", "errors", "is_run", "seeds",
    "sensitivity", "text", "write",
]  # fmt: skip

_HOME = {
    "Shown": "side_by_side", "asked": "request", "asked_of_run": "request", "beside": "side_by_side",
    "sensitivity": "survey", "text": "words",
    "write": "page", "errors": "stage_errors", "distributions": "tensors", "Inside": "inside",
    "close": "closeness.found", "is_run": "closeness.runs", "seeds": "closeness.seeds",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lessen.inspect' has no attribute '{name}'")
    return getattr(import_module(f"lessen.inspect.{_HOME[name]}"), name)
