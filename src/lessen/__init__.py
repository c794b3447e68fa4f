"""Lessen makes trained models smaller and faster, and proves what that cost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lessen.artifact import load, pack
    from lessen.catalog import recipe
    from lessen.core.recipe import Recipe
    from lessen.core.target import Target
    from lessen.study import Study
    from lessen.tasks import task

_HOME = {
    "Recipe": "lessen.core.recipe", "Technique": "lessen.core.technique", "Target": "lessen.core.target",
    "Task": "lessen.core.task", "recipe": "lessen.catalog", "task": "lessen.tasks", "load": "lessen.artifact",
    "pack": "lessen.artifact", "Study": "lessen.study",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    catalog = import_module("lessen.catalog")  # `from lessen import catalog` would ask this function again

    if name in catalog.techniques():
        return catalog.technique(name)
    raise AttributeError(f"module 'lessen' has no attribute '{name}'")


def __dir__() -> list[str]:
    catalog = import_module("lessen.catalog")

    return sorted([*_HOME, *catalog.techniques(), "__version__"])
