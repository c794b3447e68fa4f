"""A part of a step reports as its share of the whole and keeps apart what it saw."""

from __future__ import annotations

from pathlib import Path

from lessen.core.run import Run


def test_parts_share_the_progress_and_nothing_else() -> None:
    told: list[tuple[float, str]] = []
    run = Run(origin="teacher", done=("A()",), checkpoint=Path("here"), progress=lambda *said: told.append(said))
    run.notes.append("mine")
    part = run.part("second", 1, 4)
    part.progress(0.5, "epoch 1")
    part.notes.append("its own")
    part.details["a"] = 1
    assert told == [(1.5 / 4, "second, epoch 1")]
    assert part.checkpoint == Path("here/second") and (part.origin, part.done) == ("teacher", ("A()",))
    assert run.notes == ["mine"] and run.details == {} and Run().part("x", 0, 1).checkpoint is None
