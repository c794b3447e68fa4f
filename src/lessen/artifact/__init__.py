"""The files you ship and their manifest: pack, load, and run them. Importing this room imports no torch."""

from __future__ import annotations

from lessen.artifact.load import Artifact, load
from lessen.artifact.manifest import Fidelity, FileEntry, Manifest
from lessen.artifact.pack import pack
from lessen.models.state import load_model, load_weights, save_model

__all__ = ["Artifact", "Fidelity", "FileEntry", "Manifest", "load", "load_model", "load_weights", "pack", "save_model"]
