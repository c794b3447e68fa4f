"""What a model was before anything happened to it, whether it still is, and when a fresh net may take its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessen import models
from lessen.core.errors import BadArtifact, BadField, Refused
from lessen.core.run import Run
from lessen.core.text import Call
from lessen.ops import layers, structure

if TYPE_CHECKING:
    from torch import nn


def text(model: nn.Module) -> str | None:
    """What `task.build` makes the architecture from again; None for a model that does not know its builder."""
    call = _call(model)
    return None if call is None else str(call)


def _call(model: nn.Module) -> Call | None:
    """The model's builder without what comes from the task."""
    builder: Call | None = getattr(model, "builder", None)
    if builder is None:
        return None
    return Call(builder.name, {k: v for k, v in builder.args.items() if k not in ("shape", "classes")})


def compressed(model: nn.Module) -> bool:
    """Whether the model is another than its builder makes, or carries masks or quantizers."""
    builder: Call | None = getattr(model, "builder", None)
    if builder is not None:
        try:
            return bool(structure.differences(model, models.rebuild(builder)))
        except BadArtifact:  # a part that no spec can describe, so not one of its builder's
            return True
    own = layers.sites(layers.own(model)).values()
    return any(getattr(site, slot, None) is not None for site in own for slot in ("mask", *layers.SLOTS))


def refuse_fresh(technique: str, model: nn.Module, run: Run, other: str = "") -> None:
    """Whether an untrained net may take the model's place; `other` is another mend. Errors: Refused.

    Not where that throws a compression away, nor where the model, which is to teach it, is untrained itself.
    """
    before = run.done[-1] if run.done else "a compression"
    if compressed(model):
        raise Refused(
            f"{technique} cannot follow {before} because a fresh net would throw away what it won; "
            f"put {technique} first{other}"
        )
    refuse_untrained(technique, run)


def refuse_untrained(technique: str, run: Run) -> None:
    """Errors: Refused behind a Student, which nothing has trained yet."""
    if run.done and run.done[-1].startswith("Student("):
        raise Refused(
            f"{technique} cannot follow {run.done[-1]} because that one is untrained and has nothing to teach; "
            "put a step that trains it between them"
        )


def narrower(field: str, model: nn.Module, factor: float) -> str:
    """The text of the model's own builder with its width times `factor`. Errors: BadField when it has none, for the
    empty field that could name one.
    """
    call = _call(model)
    if call is None:
        raise BadField(f"{field} is empty and the model does not know its builder; name one, such as 'resnet8'")
    return str(Call(call.name, {**call.args, "width": round(call.args.get("width", 1.0) * factor, 6)}))


def refuse_no_smaller(technique: str, text: str, parameters: int, before: int) -> None:
    """Errors: Refused, with both counts, for a student that is not smaller than what it replaces."""
    if parameters >= before:
        raise Refused(
            f"{technique} '{text}' with {parameters:,} parameters is not smaller than the model with {before:,}; "
            "name a smaller one"
        )
