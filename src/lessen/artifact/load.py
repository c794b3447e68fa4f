"""Open an artifact: every file is there and every hash holds, or it is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from lessen.artifact.manifest import FORMAT, NAME, Manifest, entry
from lessen.core.errors import BadArtifact
from lessen.models.state import load_model

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Artifact:
    """A verified folder and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def runnable(self) -> tuple[Path, ...]:
        """The files that the runtime needs, and no others."""
        return tuple(self.folder / name for name, f in self.manifest.files.items() if f.role == "runnable")

    def model(self) -> nn.Module:
        """The model itself, in evaluation mode, to go on compressing."""
        return load_model(self.folder)


def load(folder: str | Path) -> Artifact:
    """Read and verify an artifact. Errors: BadArtifact naming the file that is missing or altered."""
    folder = Path(folder)
    if folder.is_file():
        raise BadArtifact(
            f"{folder} is a file; an artifact is a folder with {NAME}"
            + ("; a pickled checkpoint can run code when it is opened" if _is_pickle(folder) else "")
            + "; take its weights by: lessen compress TASK/MODEL RECIPE --weights FILE"
        )
    if not (folder / NAME).is_file():
        raise BadArtifact(
            f"{folder} is no artifact: it has no {NAME}; make one with: lessen compress TASK/MODEL RECIPE -o DIR"
        )
    try:
        found = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
            raise BadArtifact(
                f"{folder / NAME} has format {found['format']}, this version reads {FORMAT}; pack it again"
            )
        manifest = Manifest.model_validate(found)
    except (ValueError, ValidationError) as e:
        raise BadArtifact(f"{folder / NAME} cannot be read ({str(e).splitlines()[0]}); pack it again") from None
    for name, expected in manifest.files.items():
        if Path(name).name != name:
            raise BadArtifact(f"{folder / NAME} names a file outside its folder: {name!r}")
        if not (folder / name).is_file():
            raise BadArtifact(f"{folder / name} is missing; copy the whole folder again or pack it again")
        if entry(folder / name, expected.role) != expected:
            raise BadArtifact(
                f"{folder / name} was altered: its SHA-256 is not the manifest's; copy it again or pack it again"
            )
    return Artifact(folder, manifest)


def _is_pickle(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(4)
    return head[:1] == b"\x80" or head == b"PK\x03\x04"
