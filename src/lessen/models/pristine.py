"""What a model was before anything happened to it: its builder's text, and whether it still has that form."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessen import models
from lessen.core.errors import BadArtifact
from lessen.core.text import Call
from lessen.ops import layers, structure

if TYPE_CHECKING:
    from torch import nn


def text(model: nn.Module) -> str | None:
    """What `task.build` makes the architecture from again; None for a model that does not know its builder."""
    builder: Call | None = getattr(model, "builder", None)
    if builder is None:
        return None
    return str(Call(builder.name, {k: v for k, v in builder.args.items() if k not in ("shape", "classes")}))


def compressed(model: nn.Module) -> bool:
    """Whether the model is another than its builder makes, or carries masks or quantizers."""
    builder: Call | None = getattr(model, "builder", None)
    if builder is not None:
        try:
            return bool(structure.differences(model, models.rebuild(builder)))
        except BadArtifact:  # a part that no spec can describe, so not one of its builder's
            return True
    own = layers.sites(layers.own(model)).values()
    return any(getattr(site, slot, None) is not None for site in own for slot in ("mask", "wq", "iq", "oq"))
