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
from lessen.analyze.comparison import AXES, Comparison
from lessen.core.errors import BadRecipe, BadStudy, LessenError, UnknownName
from lessen.core.recipe import Recipe
from lessen.core.target import Target
from lessen.core.technique import field_error
from lessen.core.text import parse_call
from lessen.study import files

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
    comparisons: tuple[Comparison, ...] = Field((), description="questions; the recipes of their arms are run, too")
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

    @field_validator("comparisons", mode="before")
    @classmethod
    def _answerable(cls, values: Any) -> Any:
        if not isinstance(values, list | tuple):
            return values
        return tuple(asked(value, f"comparison {i} of {len(values)}") for i, value in enumerate(values, 1))

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("names a seed twice")
        return seeds

    @property
    def everything(self) -> tuple[str, ...]:
        """All recipes that are run: those listed, then those of the comparisons that are not among them."""
        asked = (recipe for comparison in self.comparisons for recipe in comparison.recipes)
        return tuple(recipe for recipe in dict.fromkeys((*self.recipes, *asked)) if recipe)

    @property
    def keys(self) -> set[tuple[str, int]]:
        """Of all trials that are wanted: every recipe, the baseline "" among them, with every seed."""
        return {(recipe, seed) for recipe in ("", *self.everything) for seed in self.seeds}

    def on(self, *, task: str = "", model: str = "", seeds: tuple[int, ...] = ()) -> Study:
        """The same recipes and questions elsewhere; what is empty stays as it is."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        given = {"task": task, "model": model, "seeds": seeds}
        return Study(**{**fields, **{name: value for name, value in given.items() if value}})

    @staticmethod
    def read(source: str | Path) -> Study:
        """A study from a YAML file or by the name of a ready one.

        Errors: UnknownName for a file, study or key that does not exist; BadStudy, BadField, BadRecipe.
        """
        path = files.path(source)
        try:
            return Study(**files.load(path))
        except LessenError as e:
            e.args = (f"{path.name}: {e}",)
            raise

    def text(self) -> str:
        """The YAML that `read` makes this study from again."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def asked(value: Any, what: str) -> Comparison:
    """A comparison with its recipes read and its x found in them. Errors: those of Comparison, and BadRecipe."""
    try:
        found = value if isinstance(value, Comparison) else Comparison(**_mapping(value))
        arms = {
            arm: tuple(str(_parsed(text, f"arm '{arm}'")) for text in recipes) for arm, recipes in found.arms.items()
        }
        for arm, recipes in arms.items():
            twice = next((r for r in recipes if recipes.count(r) > 1), None)
            if twice is not None:
                raise BadStudy(f"arm '{arm}' names '{twice}' twice; leave one out")
        if len(set(arms.values())) < len(arms):
            raise BadStudy("two arms have the same recipes; leave one out")
        if found.x and found.x not in AXES:
            _has_field(found.x, arms)
    except LessenError as e:
        e.args = (f"{what}: {e}",)
        raise
    return found.model_copy(update={"arms": arms})


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadStudy(f"{value!r} is no comparison; write question: and arms:")
    return {str(key): item for key, item in value.items()}


def _has_field(x: str, arms: dict[str, tuple[str, ...]]) -> None:
    """Errors: UnknownName for a technique or field that is not there, BadStudy for a recipe without it."""
    technique, _, field = x.partition(".")
    known = catalog.technique(technique).model_fields
    if field not in known:
        raise UnknownName(f"field of {technique} in x", field, known)
    for arm, recipes in arms.items():
        for recipe in filter(None, recipes):
            if catalog.number(recipe, x) is None:
                raise BadStudy(f"arm '{arm}', '{recipe}', has no number {x}, which x asks for; take another x")


def _parsed(text: str, what: str) -> Recipe:
    try:
        return catalog.recipe(text)
    except LessenError as e:
        raise BadRecipe(f"{what}, '{text}': {e}") from None
