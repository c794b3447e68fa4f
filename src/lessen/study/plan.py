"""A study is recipes x seeds on one task, model and baseline: a value that can be read from a file. Knows no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StrictBool,
    ValidationError,
    field_validator,
)

from lessen import catalog
from lessen.core.errors import BadRecipe, BadStudy, LessenError, UnknownName
from lessen.core.recipe import Recipe
from lessen.core.target import Target
from lessen.core.technique import field_error
from lessen.core.text import parse_call

READY = Path(__file__).parent / "ready"

Seed = Annotated[NonNegativeInt, Field(strict=True, le=2**31 - 1)]
Threads = Annotated[PositiveInt, Field(strict=True)]


class Study(BaseModel):
    """What to run. Every recipe is read and checked when the value is made, before anything runs.

    Errors: BadField, UnknownName, BadRecipe naming the recipe.

    >>> Study(name="small", task="digits", model="cnn", recipes=("Int8( )",)).recipes
    ('Int8()',)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="what the report is titled")
    task: str = Field(description='for example "digits" or "cifar100(data=\'...\')"')
    model: str = Field(description='for example "resnet20" or "vgg11(width=0.5)"')
    baseline: str = Field("", description="recipe that trains the fresh model; empty is the task's own")
    recipes: tuple[str, ...] = Field((), description="each is applied to the baseline")
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="every recipe is run with each")
    target: Target = Field(Target(), description="where the model must run and what it may cost")
    final: StrictBool = Field(False, description="train on train + validation, once choices are made")
    threads: Threads = Field(1, description="training threads; another number gives other weights")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as e:
            raise field_error("Study", type(self), e) from None

    @field_validator("target", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        fields: dict[str, Any] = {str(k): tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        try:
            return Target(**fields)
        except ValidationError as e:
            raise field_error("Study.target", Target, e) from None

    @field_validator("task", "model")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse_call(text)
        return text.strip()

    @field_validator("baseline")
    @classmethod
    def _trains(cls, text: str) -> str:
        return str(_parsed(text, "the baseline"))

    @field_validator("recipes")
    @classmethod
    def _distinct(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        first: dict[Recipe, int] = {}
        for i, text in enumerate(texts, 1):
            recipe = _parsed(text, f"recipe {i} of {len(texts)}")
            if not len(recipe):
                raise BadRecipe(f"recipe {i} of {len(texts)} is empty; the baseline is always run, leave it out")
            if first.setdefault(recipe, i) != i:
                raise BadRecipe(
                    f"recipe {i} of {len(texts)}, '{recipe}', is recipe {first[recipe]} again; leave one out"
                )
        return tuple(map(str, first))

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("names a seed twice")
        return seeds

    @staticmethod
    def read(source: str | Path) -> Study:
        """A study from a YAML file or by the name of a ready one.

        Errors: UnknownName for a file, study or key that does not exist; BadStudy, BadField, BadRecipe.
        """
        path = Path(source)
        if not path.suffix and not path.is_file():
            if str(source) not in names():
                raise UnknownName("study", str(source), names(), "or give a YAML file")
            path = READY / f"{source}.yaml"
        try:
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadStudy(f"there is no study file {path}; ready studies: {', '.join(names())}") from None
        except (OSError, UnicodeDecodeError) as e:
            raise BadStudy(f"cannot read {path}: {getattr(e, 'strerror', None) or e}") from None
        except yaml.YAMLError as e:
            raise BadStudy(f"{path} is no YAML: {' '.join(str(e).split())}") from None
        if not isinstance(found, dict):
            raise BadStudy(f"{path} is no study; write name:, task:, model: and recipes:")
        try:
            return Study(**{str(key): value for key, value in found.items()})
        except LessenError as e:
            e.args = (f"{path.name}: {e}",)
            raise

    def text(self) -> str:
        """The YAML that `read` makes this study from again."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def names() -> tuple[str, ...]:
    """The ready studies."""
    return tuple(sorted(file.stem for file in READY.glob("*.yaml")))


def _parsed(text: str, what: str) -> Recipe:
    try:
        return catalog.recipe(text)
    except LessenError as e:
        raise BadRecipe(f"{what}, '{text}': {e}") from None
