"""Tasks by name: `task("cifar100(seed=1)")`. Data sets are read, and torch imported, when a task is made."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lessen.core.errors import BadData, BadField, LessenError, UnknownName
from lessen.core.task import Task
from lessen.core.text import Call, parse_call
from lessen.models import imported

if TYPE_CHECKING:
    from lessen.tasks.dataset import Settings

_HOME = {
    "digits": "lessen.tasks.digits", "cifar10": "lessen.tasks.cifar", "cifar100": "lessen.tasks.cifar",
    "fashion": "lessen.tasks.fashion", "folder": "lessen.tasks.folder",
}  # fmt: skip


def names() -> tuple[str, ...]:
    """The data sets that come with the package."""
    return tuple(_HOME)


def data_set(name: str) -> type[Settings]:
    """The class of that data set: its fields are the task's arguments. Errors: UnknownName."""
    if name not in _HOME:
        raise UnknownName("task", name, names(), "or give your own as package.module:function")
    return getattr(import_module(_HOME[name]), name.capitalize())


def describe(name: str) -> str:
    """One line about a data set. Errors: UnknownName."""
    return (data_set(name).__doc__ or "").partition("\n")[0]


def task(text: str | Task) -> Task:
    """Make a task: `digits`, `folder(path="pets")` or `package.module:function(k=v)`.

    Errors: BadRecipe for text that cannot be read, UnknownName, BadField, BadData.
    """
    if isinstance(text, Task):
        return text
    call = parse_call(text)
    if ":" in call.name:
        return _own(call)
    settings = data_set(call.name)(**call.args)
    from lessen.tasks.images import ImageTask

    return ImageTask(settings.load(), settings)


def _own(call: Call) -> Task:
    """What the user's function returns; its text becomes the call."""
    try:
        found = _function(call.name)(**call.args)
    except LessenError:
        raise
    except Exception as e:  # whatever the user's code raises
        raise BadData(f"task '{call}' failed: {imported.line(e)}") from e
    if not isinstance(found, Task):
        raise BadField(f"'{call.name}' returned a {type(found).__name__}; return a lessen Task, such as ImageTask")
    found.text = str(call)
    return found


def _function(name: str) -> Any:
    module, _, attribute = name.partition(":")
    home = imported.module(module, "task", name)
    known = {k: v for k, v in vars(home).items() if callable(v) and not k.startswith("_")}
    if attribute not in known:
        raise UnknownName(f"function of {module}", attribute, known)
    return known[attribute]
