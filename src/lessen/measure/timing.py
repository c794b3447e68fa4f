"""Latency that survives a noisy machine: this and the baseline run by turns in one process, and pairs are compared.

What slows the machine for a while slows both halves of a pair, so their ratio stays. One timed run is a block of
calls that lasts 5 ms or more (a single call where one lasts as long), so the timer's own error is below 0.1 %.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from lessen.core.record import Latency

BLOCK = 5e-3  # seconds that one timed run lasts at least
WARM_UP = 0.05  # seconds of calls before timing, three calls at least
MOST_CALLS = 1000  # in one block


def alternate(calls: Sequence[Callable[[], object]], runs: int) -> np.ndarray:
    """Milliseconds per call: (runs, len(calls)). Every run times each once, and the order turns round each time."""
    sizes = [_block_size(call) for call in calls]
    seconds = np.empty((runs, len(calls)))
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for run in range(runs):
            order = range(len(calls))
            for i in order if run % 2 == 0 else reversed(order):
                seconds[run, i] = _block(calls[i], sizes[i])
    finally:
        if was_enabled:
            gc.enable()
    return seconds * 1e3


def latency(batch: int, ms: np.ndarray) -> Latency:
    """Summary of `alternate`'s times, (runs, 1) or (runs, 2) with the baseline's second."""
    median, iqr = _spread(ms[:, 0])
    ratio, ratio_iqr = _spread(ms[:, 0] / ms[:, 1]) if ms.shape[1] > 1 else (None, None)
    return Latency(batch=batch, median_ms=median, iqr_ms=iqr, n=len(ms), ratio=ratio, ratio_iqr=ratio_iqr)


def _block_size(call: Callable[[], object]) -> int:
    """Warm up, then as many calls as fill a block at the fastest pace seen."""
    times: list[float] = []
    while len(times) < 3 or (sum(times) < WARM_UP and len(times) < MOST_CALLS):
        times.append(_timed(call, 1))
    return min(MOST_CALLS, math.ceil(BLOCK / max(min(times), 1e-9)))


def _block(call: Callable[[], object], size: int) -> float:
    """Seconds per call over a block; the other model has just emptied the caches, so short calls get one to refill."""
    if size > 1:
        call()
    return _timed(call, size) / size


def _timed(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start


def _spread(values: np.ndarray) -> tuple[float, float]:
    """Median and interquartile range."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return float(middle), float(high - low)
