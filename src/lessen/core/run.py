"""The surroundings of one step: what a technique may ask for and where it leaves what it saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lessen.core.record import Epoch


def silent(fraction: float, text: str) -> None:
    """The default progress callback: says nothing."""


@dataclass
class Run:
    """Handed to `_apply`.

    origin: the model that the last Student replaced, or else the one before the recipe: a teacher by default.
    done: texts of the techniques that the model has been through already, oldest first.
    step: the technique that runs, with all its fields; a training that was killed is gone on with by the same alone.
    checkpoint: a folder in which a training loop may keep its state to resume after a kill.
    progress: called with (share done 0..1, short text such as "epoch 3/10 loss 0.41").
    earlier: seconds of the epochs that were trained before a kill, of this step and its parts.
    """

    origin: Any = None
    done: tuple[str, ...] = ()
    step: str = ""
    checkpoint: Path | None = None
    progress: Callable[[float, str], None] = silent
    history: list[Epoch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    earlier: list[float] = field(default_factory=list)

    def part(self, name: str, number: int, of: int) -> Run:
        """The surroundings of part `number` (from 0) of so many; its folder, history and notes are its own.

        >>> Run(checkpoint=Path("kept")).part("stage-1", 0, 3).checkpoint.as_posix()
        'kept/stage-1'
        """
        tell, kept = self.progress, self.checkpoint
        return replace(
            self, checkpoint=None if kept is None else kept / name, history=[], notes=[], details={},
            progress=lambda done, words: tell((number + done) / of, f"{name}, {words}"),
        )  # fmt: skip
