"""A question that a study asks: named arms of recipes, compared at what they cost. The study checks the recipes."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lessen.core.errors import BadField, BadStudy, UnknownName
from lessen.core.technique import field_error

FIELD = re.compile(r"[A-Z]\w*\.[a-z]\w*")  # Technique.field
AXES = {
    "sparsity": "share of the baseline's non-zero values that are gone, biases and norms counted",
    "parameters": "trained values",
    "bits": "of all values as stored, scales and masks included",
    "bytes": "all files that the runtime needs",
    "macs": "multiply-accumulates a sample, dense",
    "nonzero macs": "multiply-accumulates a sample, zero weights left out",
    "latency": "time of a call at the first batch size, as a share of the baseline's",
}
SIZES = tuple(axis for axis in AXES if axis != "sparsity")  # smaller is cheaper
FEWEST = 3  # recipes of an arm that a law can be fitted to


class Comparison(BaseModel):
    """Arms answer one question; the first is the one that the others are compared with.

    An arm of one recipe is compared by its training, one of several is a curve over `x`: one of AXES, or
    "Technique.field", the value of that field in the recipe. The empty recipe is the baseline.

    `by` asks more. "law": each arm is a number of bits in models of several sizes; a curve of error over x is fitted to
    it, and the arm with the least error at every x found. "budget": the best of each arm within the same x. "class":
    which classes of the test set lose. "best": which value of the field x validation chooses, and how surely.
    Errors: BadStudy, BadField, UnknownName.

    >>> Comparison(question="Which?", arms={"8 bits": "Int8()", "dense": ""}).arms["dense"]
    ('',)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str = Field(min_length=1, description="what the arms are to answer, as a title")
    arms: dict[str, tuple[str, ...]] = Field(description="name: recipe, or a list of recipes; '' is the baseline")
    x: str = Field("", description=f"what curves are drawn against: {', '.join(AXES)}, or Technique.field")
    by: Literal["", "law", "budget", "class", "best"] = Field(
        "", description="what else to tell: law, budget, class or best"
    )
    close: bool | None = Field(
        None, description="how close arms answer to the baseline; by itself where one has a Student"
    )

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as e:
            raise field_error("Comparison", type(self), e) from None

    @field_validator("arms", mode="before")
    @classmethod
    def _named(cls, arms: Any) -> Any:
        if not isinstance(arms, dict):
            raise BadField("Comparison.arms names no arms; write name: recipe for each")
        for name, recipes in arms.items():
            if not isinstance(name, str) or not name.strip():
                raise BadField(f"the arm's name {name!r} is no text; put it in quotes")
            if recipes is None or (not recipes and recipes != ""):
                raise BadField(f"arm '{name}' has no recipe; write '' for the baseline")
        return {name: (found,) if isinstance(found, str) else found for name, found in arms.items()}

    @field_validator("x")
    @classmethod
    def _known(cls, x: str) -> str:
        if x and x not in AXES and not FIELD.fullmatch(x):
            raise UnknownName("x", x, AXES, "or write Technique.field")
        return x

    @model_validator(mode="after")
    def _comparable(self) -> Comparison:
        if len(self.arms) < 2:
            named = f"only '{next(iter(self.arms))}'" if self.arms else "no arms"
            raise BadStudy(f"names {named}; a comparison needs two arms or more")
        for name, recipes in self.arms.items():
            if len(recipes) > 1 and not self.x:
                raise BadStudy(
                    f"arm '{name}' has {len(recipes)} recipes; set x, which tells what they are drawn against"
                )
        self._asked_more()
        return self

    def _asked_more(self) -> None:
        """Errors: BadStudy where `by` does not go with x or the arms."""
        if self.by in ("law", "budget") and self.x not in SIZES:
            wanted = "bits" if self.by == "law" else "bytes"
            raise BadStudy(f"by: {self.by} needs a cost as x, and x is '{self.x}'; write x: {wanted}")
        if self.by == "law" and all(len(recipes) < FEWEST for recipes in self.arms.values()):
            raise BadStudy(
                f"by: law needs {FEWEST} recipes or more in an arm, one for each size of the model; add some"
            )
        if self.by == "best" and not FIELD.fullmatch(self.x):
            raise BadStudy(f"by: best needs a field as x, and x is '{self.x}'; write x: LogitDistill.temperature")
        if self.by == "class" and self.curves:
            raise BadStudy("by: class compares arms of one recipe each; make every recipe an arm")

    @property
    def curves(self) -> bool:
        """Whether an arm has several recipes."""
        return any(len(recipes) > 1 for recipes in self.arms.values())

    @property
    def recipes(self) -> tuple[str, ...]:
        """All recipes of all arms, each once."""
        return tuple(dict.fromkeys(recipe for arm in self.arms.values() for recipe in arm))
