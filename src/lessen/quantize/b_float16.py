"""Weights as two-byte floats with the range of float32 (Kalamkar et al. 2019, arXiv:1905.12322).

Runtimes on CPUs compute these weights in float32: half the bytes on disk, the same speed.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Technique


class BFloat16(Technique):
    """Two-byte weights of 8 significant bits, computed in float32; no weight is too large for them."""

    paper: ClassVar[str] = "Kalamkar et al. 2019, arXiv:1905.12322"

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops.halves import halve

        return halve(model, task, run, "BFloat16", "bfloat16")
