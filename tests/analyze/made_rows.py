"""Rows of a study as they could have been: scores by epoch and right answers are given, the rest is the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lessen.core.record import Bytes, Cost, Epoch, Latency, Machine, Measurement, Record, Score
from lessen.core.trial import Trial

HERE = Machine(cpu="c", cores=2, threads=1, memory_gib=8.0, system="s", python="3.11", runtime="r")
DENSE = Cost(parameters=1000, nonzeros=1000, macs=500, weight_bits=32_000, nonzero_macs=500)
TRAIN = "Finetune(epochs=4)"


def history(scores: Sequence[float]) -> tuple[Epoch, ...]:
    return tuple(Epoch(epoch=i, loss=1.0, score=s, lr=0.1, seconds=1.0) for i, s in enumerate(scores, 1))


def record(text: str, scores: Sequence[float] = (), *, score: float | None = None, **more) -> Record:
    """One step; `scores` are of its epochs."""
    fields = {"seed": 0, "seconds": 2.0, "before": DENSE, "after": DENSE, **more}
    last = scores[-1] if scores else score
    return Record(technique=text, history=history(scores), score=last, **fields)


def cost(share: float) -> Cost:
    """The dense net with that share of its weights left."""
    left = round(1000 * share)
    return Cost(parameters=1000, nonzeros=left, macs=500, weight_bits=32_000, nonzero_macs=left // 2)


def trial(
    recipe: str,
    seed: int,
    right: float,
    *steps: Record,
    of: Cost = DENSE,
    size: int = 4000,
    n: int = 100,
    by: str = "top-1",
) -> Trial:
    """A row whose test score is `right`; the baseline was trained for four epochs to 0.9 on validation."""
    score = Score(value=right, low=0.0, high=1.0, n=n, by=by)
    seen = Measurement(
        validation=score, test=score, bytes=Bytes(runnable=size, transport=size // 2, folder=2 * size), cost=of,
        latency=(Latency(batch=1, median_ms=1.0, iqr_ms=0.1, n=30, ratio=size / 4000),), peak_memory_mib=1.0,
        machine=HERE,
    )  # fmt: skip
    return Trial(
        study="s", recipe=recipe, seed=seed, status="done", task="digits", task_fingerprint="f", model="cnn",
        records=(record(TRAIN, (0.5, 0.8, 0.9, 0.9)), *steps), measurement=seen, predictions=f"{recipe}-{seed}.npz",
    )  # fmt: skip


def answers(table: dict[tuple[str, int], np.ndarray]):
    """Right answers by recipe and seed; those of others are gone."""
    return lambda t: table.get(t.key)
