"""Bytes in three columns, and claims that the file itself contradicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zstandard

from lessen.core.record import Bytes, Cost
from lessen.measure import sizes


def test_three_columns(tmp_path: Path) -> None:
    contents = {"model.onnx": bytes(10_000), "more.bin": np.random.default_rng(0).bytes(300), "manifest.json": b"{}"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "extra").write_bytes(bytes(7))
    runnable = [tmp_path / "model.onnx", tmp_path / "more.bin"]
    compressor = zstandard.ZstdCompressor(level=19)
    transport = sum(len(compressor.compress(contents[f.name])) for f in runnable)
    assert sizes.count(tmp_path, runnable) == Bytes(runnable=10_300, transport=transport, folder=10_309)
    assert transport < 400


def cost(parameters: int, nonzeros: int) -> Cost:
    return Cost(parameters=parameters, nonzeros=nonzeros, macs=0, weight_bits=0)


def test_a_file_that_holds_what_was_counted(make_artifact) -> None:
    assert sizes.contradictions(make_artifact().runnable, cost(36, 36)) == ()


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        (cost(36, 18), "the file stores 36 non-zero weights, more than the 18 counted when it was packed"),
        (cost(35, 36), "the file stores 36 weights, more than the 35 counted when it was packed"),
    ],
)
def test_claims_that_the_file_contradicts(make_artifact, claimed: Cost, expected: str) -> None:
    """A mask that was counted but not applied is the field's commonest untruth."""
    assert sizes.contradictions(make_artifact().runnable, claimed) == (expected,)
