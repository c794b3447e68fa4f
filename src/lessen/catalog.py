"""Name -> technique, found by file name; nothing is imported until a technique is used."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from lessen.core.errors import UnknownName
from lessen.core.recipe import Recipe
from lessen.core.technique import Technique

ROOMS = ("prune", "quantize", "distill", "factorize", "nas")


@cache
def techniques() -> dict[str, str]:
    """Class name -> module path of every technique, in the order of the rooms; reads files, imports none."""
    found: dict[str, str] = {}
    for room in ROOMS:
        for file in sorted((Path(__file__).parent / room).glob("[a-z]*.py")):
            for name in re.findall(r"^class (\w+)\(Technique\)", file.read_text(encoding="utf-8"), re.MULTILINE):
                found[name] = f"lessen.{room}.{file.stem}"
    return found


def technique(name: str) -> type[Technique]:
    """The class of that name. Errors: UnknownName with the nearest name."""
    known = techniques()
    if name not in known:
        raise UnknownName("technique", name, known)
    return getattr(import_module(known[name]), name)


def family(name: str) -> str:
    """The room a technique lives in: prune, quantize, distill, factorize or nas."""
    return techniques()[name].split(".")[1]


def describe(name: str) -> dict[str, Any]:
    """A technique as JSON: its family, paper and the schema of its fields."""
    kind = technique(name)
    return {"family": family(name), "paper": kind.paper, "trains": kind.trains, "schema": kind.model_json_schema()}


def schema() -> dict[str, Any]:
    """JSON schema of a recipe: its text, and under `$defs` the fields of every technique that may stand in it."""
    names = "|".join(techniques())
    step = rf"({names})\([^()]*(\([^()]*\)[^()]*)*\)"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Recipe",
        "type": "string",
        "description": "techniques in order, joined by >>; the text is legal Python: A(x=1) >> B()",
        "pattern": rf"^\s*{step}(\s*>>\s*{step})*\s*$",
        "examples": ["ChannelPrune(ratio=0.4) >> LogitDistill(epochs=10) >> Int8()"],
        "$defs": {name: technique(name).model_json_schema() for name in techniques()},
    }


def recipe(text: str | Recipe) -> Recipe:
    """Read a recipe's text: `recipe("ChannelPrune(ratio=0.4) >> Int8()")`. Errors: BadRecipe, UnknownName, BadField."""
    return text if isinstance(text, Recipe) else Recipe.parse(text, technique)


def number(text: str, field: str) -> float | None:
    """The value of "Technique.field" in a recipe, of its last step of that name; None where there is no number."""
    name, _, field = field.partition(".")
    steps = [step for step in recipe(text) if type(step).__name__ == name]
    value = getattr(steps[-1], field, None) if steps else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
