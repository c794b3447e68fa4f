"""A technique is one change to a model: a frozen, typed value with one verb, `apply`."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, final

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from lessen.core.errors import BadField, UnknownName
from lessen.core.record import Record
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.text import format_call

if TYPE_CHECKING:
    from lessen.core.recipe import Recipe


@dataclass(frozen=True)
class Doc:
    """One line about a field: `Annotated[bool, Doc("also cut the first layer")] = False`."""

    doc: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "description": self.doc}


@dataclass(frozen=True)
class Folder(Doc):
    """A field (text, or a tuple of texts) that names artifacts' folders; their content decides what a step gives."""


@dataclass(frozen=True)
class Range(Doc):
    """A number's range, both ends allowed, declared once for checks, help, schema and search.

    >>> Range("share of weights removed", 0.0, 0.99).contains(0.5)
    True
    """

    low: float
    high: float
    log: bool = False  # search on a logarithmic scale

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high  # NaN is in no range

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not self.contains(number):
                raise ValueError(f"is out of its range {self.low:g} to {self.high:g} ({self.doc})")
        return value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = super().__get_pydantic_json_schema__(schema, handler)
        return {**found, "minimum": self.low, "maximum": self.high} if "type" in found else found


class Technique(BaseModel):
    """Base of all techniques. An author declares fields and writes `_apply`; nothing else is overridden.

    Errors: `BadField` for a value out of range, `Refused` when the model cannot take this change now.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    paper: ClassVar[str]  # "Han et al. 2015, arXiv:1506.02626"
    neutral: ClassVar[dict[str, Any] | None] = None  # settings that change nothing, where there are any
    trains: ClassVar[bool] = False  # spends epochs
    replaces: ClassVar[bool] = False  # puts a fresh model in the model's place, which later steps have as `run.origin`
    shown: ClassVar[tuple[str, ...]] = ()  # fields that the text names even at their defaults

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as e:
            raise field_error(type(self).__name__, type(self), e) from None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Technique not in cls.__bases__:
            raise TypeError(f"{cls.__name__} may not extend {cls.__bases__[0].__name__}: techniques are final")

    @final
    def apply(self, model: Any, task: Task, *, seed: int = 0, run: Run | None = None) -> tuple[Any, Record]:
        """Change a private copy of the model; returns it with the record of what was done.

        Everything random follows from `seed`; the caller's random state and model stay untouched.
        """
        run = replace(run or Run(), history=[], notes=[], details={}, earlier=[])
        run.origin = model if run.origin is None else run.origin
        run.step = format_call(type(self).__name__, dict(self))
        start, before = time.perf_counter(), task.cost(model)
        with task.seeded(seed):
            changed = self._apply(task.copy(model), task, run)
        seconds = time.perf_counter() - start + sum(run.earlier)
        record = Record(
            technique=str(self), seed=seed, seconds=seconds, before=before, after=task.cost(changed),
            score=task.evaluate(changed, "validation"), history=tuple(run.history), notes=tuple(run.notes),
            details=run.details,
        )  # fmt: skip
        return changed, record

    @abstractmethod
    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        """Edit `model`, a private copy, and return it (or its replacement)."""
        raise TypeError(f"{type(self).__name__} lacks _apply")

    def __rshift__(self, other: Technique | Recipe) -> Recipe:
        from lessen.core.recipe import Recipe

        return Recipe.of(self) >> other

    def __str__(self) -> str:
        """The text that makes this value again; fields at their defaults are left out, but for those in `shown`."""
        defaults = {k: f.default for k, f in type(self).model_fields.items()}
        changed = {k for k, v in self if v != defaults[k] or type(v) is not type(defaults[k])}
        return format_call(type(self).__name__, {k: v for k, v in self if k in changed or k in self.shown})

    __repr__ = __str__


def field_error(name: str, model: type[BaseModel], error: ValidationError) -> BadField | UnknownName:
    """The first fault of a pydantic error as one line that names the field and the mend."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return UnknownName(f"field of {name}", where, model.model_fields)
    if first["type"] == "missing":
        return BadField(f"{name} lacks its field '{where}'")
    message = first["msg"].removeprefix("Value error, ")
    message = message if message.startswith("is ") else f"is wrong: {message[:1].lower()}{message[1:]}"
    return BadField(f"{name}.{where} = {first['input']!r} {message}")
