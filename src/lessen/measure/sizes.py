"""Bytes in three columns that are never mixed, and what a file's own weights say about the counted cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lessen.core.record import Bytes, Cost


def count(folder: Path, runnable: Sequence[Path]) -> Bytes:
    """runnable: what the runtime needs; transport: each of those files under zstd -19; folder: everything."""
    return Bytes(
        runnable=sum(file.stat().st_size for file in runnable),
        transport=sum(map(_compressed, runnable)),
        folder=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
    )


def _compressed(file: Path) -> int:
    import zstandard

    return len(zstandard.ZstdCompressor(level=19).compress(file.read_bytes()))


def contradictions(runnable: Sequence[Path], cost: Cost) -> tuple[str, ...]:
    """Notes where the .onnx file's weights (two axes or more, unpacked) are more than the manifest counts.

    A packed encoding holds fewer, never more; masks that were claimed but not applied show up here.
    """
    import onnx

    from lessen.artifact import forms

    weights = nonzeros = 0
    for file in runnable:
        if file.suffix != ".onnx":
            continue
        for _, values in forms.weights(onnx.load(file), str(file.parent)):
            weights, nonzeros = weights + values.size, nonzeros + int((values != 0).sum())
    pairs = (("weights", weights, cost.parameters), ("non-zero weights", nonzeros, cost.nonzeros))
    return tuple(
        f"the file stores {found} {what}, more than the {counted} counted when it was packed"
        for what, found, counted in pairs
        if found > counted
    )
