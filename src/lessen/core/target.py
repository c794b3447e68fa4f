"""Where a model must run and what it may cost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt


class Target(BaseModel):
    """A device and a budget; a limit that is None is no limit.

    >>> Target(max_bytes=100_000, max_drop=0.01).threads
    1
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    device: Literal["cpu"] = "cpu"
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"
    threads: PositiveInt = 1
    batches: tuple[PositiveInt, ...] = (1, 64)  # latency is measured at each
    runs: PositiveInt = 30  # timed calls at each batch size
    max_bytes: PositiveInt | None = None  # of the runnable files
    max_latency_ms: float | None = None  # median at the first batch size
    max_drop: float | None = None  # of the score, 0.01 is one point
