"""What was seen: costs, scores, measurements and the record of one step. All frozen, all JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    """A frozen value that goes into a row and comes back equal."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Cost(Row):
    """What a model holds and computes, counted, not measured."""

    parameters: int  # trained values
    nonzeros: int  # of them, those that are not zero after masks and rounding
    macs: int  # multiply-accumulates of one forward pass of one sample, dense count
    weight_bits: int  # bits of all parameters as stored densely, scales and masks included
    nonzero_macs: int | None = None  # macs with each layer's zero weights left out; None in rows that did not count it


class Epoch(Row):
    """One epoch of training."""

    epoch: int
    loss: float
    score: float | None  # on validation; None when there is none
    lr: float
    seconds: float


class Record(Row):
    """What one step did."""

    technique: str
    seed: int
    seconds: float
    before: Cost
    after: Cost
    score: float | None = None  # on validation, after the step, in the training framework
    history: tuple[Epoch, ...] = ()
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = {}


TOP1 = "top-1"


class Score(Row):
    """The score of n samples with its 95 % interval.

    by: "top-1", the share of right answers with Wilson's interval, or the name of the task's own score, whose interval
    is a percentile bootstrap's over samples.
    """

    value: float
    low: float
    high: float
    n: int
    by: str = TOP1


class Latency(Row):
    """Milliseconds per call at one batch size, alternated run by run with the baseline's artifact."""

    batch: int
    median_ms: float
    iqr_ms: float
    n: int
    ratio: float | None = None  # median of this / baseline, paired run by run; None without a baseline
    ratio_iqr: float | None = None


class Bytes(Row):
    """Three columns, never mixed."""

    runnable: int  # all files that the runtime needs and no others
    transport: int  # those files under zstd -19
    folder: int  # everything, to go on compressing


class Machine(Row):
    """Where a measurement was taken."""

    cpu: str
    cores: int
    threads: int
    memory_gib: float
    system: str
    python: str
    runtime: str  # for example "onnxruntime 1.32.0"


class Measurement(Row):
    """What an artifact costs and how well it answers, taken from its files in its runtime."""

    validation: Score | None
    test: Score
    bytes: Bytes
    cost: Cost
    latency: tuple[Latency, ...]
    peak_memory_mib: float
    machine: Machine
    operators: dict[str, int] = {}  # operators that the runtime really runs, by count
    notes: tuple[str, ...] = ()
