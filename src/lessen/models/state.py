"""A model on disk as data: `structure.json` says how it differs from its builder's net, safetensors hold the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.core.errors import BadArtifact
from lessen.core.text import Call

if TYPE_CHECKING:
    from torch import nn

STRUCTURE = "structure.json"
WEIGHTS = "weights.safetensors"


def save_model(model: nn.Module, folder: Path) -> None:
    """Write both files into an existing folder. Errors: BadArtifact for a model that cannot be described."""
    from safetensors.torch import save

    from lessen import models
    from lessen.ops import structure, ties

    builder: Call | None = getattr(model, "builder", None)
    if builder is None:
        described: dict[str, Any] = {"builder": None, "specs": {"": structure.describe(structure.layers.own(model))}}
    else:
        specs = structure.differences(model, models.rebuild(builder))
        described = {"builder": {"name": builder.name, "args": builder.args}, "specs": specs}
    if tied := ties.ties(model):
        described["tied"] = tied
    (folder / STRUCTURE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    (folder / WEIGHTS).write_bytes(save(structure.tensors(model)))  # save_file would make it private to its owner


def load_model(folder: Path) -> nn.Module:
    """The model that `save_model` wrote, in evaluation mode. Errors: BadArtifact."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from lessen import models
    from lessen.ops import structure

    try:
        described = json.loads((folder / STRUCTURE).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as e:
        raise BadArtifact(f"{folder} holds no readable model ({e}); pack it again") from None
    builder = described["builder"] and Call(described["builder"]["name"], _tuples(described["builder"]["args"]))
    fresh = models.rebuild(builder) if builder else structure.make(described["specs"][""])
    model = structure.restore(fresh, described["specs"], tensors, described.get("tied", ()))
    if builder:
        model.builder = builder  # type: ignore[assignment]
    return model.eval()


def load_weights(model: nn.Module, file: Path, *, trust_pickle: bool = False) -> nn.Module:
    """Put a user's own state into a fresh model, from safetensors or a torch checkpoint of tensors alone.

    A checkpoint that needs unpickling of anything else runs code when opened: it is refused unless trusted.
    """
    import pickle
    import warnings

    import torch
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            state: Any = load_file(file)
        else:
            with warnings.catch_warnings(action="ignore"):  # torch wonders about the pickle's age
                state = torch.load(file, map_location="cpu", weights_only=not trust_pickle)
    except FileNotFoundError:
        raise BadArtifact(f"{file} does not exist") from None
    except pickle.UnpicklingError:
        raise BadArtifact(
            f"{file} is a pickle of more than tensors and would run code when opened; save its state_dict() "
            "as safetensors, or add --trust-pickle if you made it yourself"
        ) from None
    except Exception as e:  # safetensors and zip readers raise types of their own
        reason = f"{type(e).__name__}: {' '.join(str(e).split())[:100]}"
        raise BadArtifact(f"{file} cannot be read as weights ({reason}); save state_dict() as safetensors") from None
    state = state.state_dict() if isinstance(state, torch.nn.Module) else state
    state = state.get("state_dict", state.get("model", state)) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise BadArtifact(f"{file} holds a {type(state).__name__}; save the model's state_dict()")
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    if misfit := _misfit(model.state_dict(), state):
        raise BadArtifact(f"{file} does not fit the model: {misfit}; name the model that it belongs to")
    model.load_state_dict(state)
    return model


def _misfit(wanted: dict[str, Any], state: dict[str, Any]) -> str:
    """In words, the first of each kind of difference between a model's tensors and a file's."""
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    both = [(k, tuple(v.shape), tuple(getattr(state[k], "shape", ()))) for k, v in wanted.items() if k in state]
    reshaped = [f"'{name}' is {found}, expected {shape}" for name, shape, found in both if shape != found]
    said = [
        f"it lacks {len(missing)} of {len(wanted)} tensors, such as '{missing[0]}'" if missing else "",
        f"it has {len(unknown)} others, such as '{unknown[0]}'" if unknown else "",
        *reshaped[:1],
    ]
    return ", ".join(filter(None, said))


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
