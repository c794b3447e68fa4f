"""What an artifact says of itself: hashes, recipe, lineage, versions, how true the file is to the model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lessen.core.record import Cost, Record

FORMAT = 1
NAME = "manifest.json"


class FileEntry(BaseModel):
    """One file: its SHA-256, its size, and whether the runtime needs it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    bytes: int
    role: Literal["runnable", "compress"]


class Fidelity(BaseModel):
    """How the packed file answered against the model it came from, on n different training samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    agreement: float  # share of samples with the same top class
    sqnr_db: float  # signal to difference of the outputs
    least_agreement: float  # the tolerance: below it pack refuses,
    sure_sqnr_db: float  # but not above this SQNR, where only ties between classes can flip
    least_sqnr_db: float  # below it pack always refuses


class SparseWeight(BaseModel):
    """A weight stored as a bitmask and the values that are not zero."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str
    weights: int
    nonzeros: int
    bytes: int  # in the file, with its share of nodes and names,
    dense_bytes: int  # where it would take these as a dense tensor


class Manifest(BaseModel):
    """Everything about an artifact but its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    recipe: str
    seed: int
    model: str
    task: str
    task_fingerprint: str
    code: str = ""  # hash of the user's own modules that made the model and the task; empty where both are Lessen's
    final: bool
    license: str  # of the data that it was trained on
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    preprocess: dict[str, Any]  # from raw samples to the file's input
    cost: Cost
    fidelity: Fidelity
    computes: str  # what arithmetic the runtime uses, in words
    bits: dict[str, int] = {}  # of a stored weight, by layer, where fewer than a byte has: packed, and unpacked at load
    sparse: tuple[SparseWeight, ...] = ()  # the weights whose zeros take no bytes; the runtime unpacks them at load
    records: tuple[Record, ...] = ()
    lineage: tuple[str, ...] = ()  # ids of the artifacts it came from, oldest first
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    files: dict[str, FileEntry]

    @property
    def id(self) -> str:
        """Names the artifact by its runnable bytes."""
        runnable = sorted(f"{name}:{f.sha256}" for name, f in self.files.items() if f.role == "runnable")
        return hashlib.sha256("\n".join(runnable).encode()).hexdigest()[:16]


def entry(file: Path, role: Literal["runnable", "compress"]) -> FileEntry:
    """Hash and size of a file on disk."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileEntry(sha256=digest, bytes=file.stat().st_size, role=role)
