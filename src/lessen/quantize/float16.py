"""Weights as two-byte floats of 11 significant bits (Micikevicius et al. 2018, arXiv:1710.03740).

Runtimes on CPUs compute these weights in float32: half the bytes on disk, the same speed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique


class Float16(Technique):
    """Two-byte weights, computed in float32; weights that an earlier step gave fewer bits keep them."""

    paper: ClassVar[str] = "Micikevicius et al. 2018, arXiv:1710.03740"

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops.halves import halve

        return halve(model, task, run, "Float16", "float16")
