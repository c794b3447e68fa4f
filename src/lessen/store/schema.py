"""The layout of study.db: one row a trial, its whole JSON and columns for people who open the file with sqlite3."""

from __future__ import annotations

from typing import Any

from lessen.core.trial import Trial

FORMAT = 1  # kept in `user_version`; a file with another number is not read

COLUMNS = {
    "recipe": "TEXT NOT NULL",  # empty is the baseline
    "seed": "INTEGER NOT NULL",
    "attempt": "INTEGER NOT NULL",
    "status": "TEXT NOT NULL CHECK (status IN ('done', 'failed'))",
    "error": "TEXT NOT NULL",
    "validation": "REAL",
    "test": "REAL",
    "runnable_bytes": "INTEGER",
    "transport_bytes": "INTEGER",
    "folder_bytes": "INTEGER",
    "parameters": "INTEGER",
    "nonzeros": "INTEGER",
    "macs": "INTEGER",
    "latency_ms": "REAL",  # median at the first batch size
    "latency_ratio": "REAL",  # to the baseline, paired run by run
    "peak_memory_mib": "REAL",
    "seconds": "REAL NOT NULL",
    "finished": "TEXT NOT NULL",
    "study": "TEXT NOT NULL",
    "task": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "final": "INTEGER NOT NULL",
    "artifact": "TEXT NOT NULL",
    "payload": "TEXT NOT NULL",  # the trial as JSON: what is read back
}

_REFUSE = """CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table}
    BEGIN SELECT RAISE(ABORT, 'a written row never changes'); END"""

STATEMENTS = (
    f"CREATE TABLE trials (id INTEGER PRIMARY KEY, {', '.join(f'{k} {v}' for k, v in COLUMNS.items())}, "
    "UNIQUE (recipe, seed, attempt))",
    # once done, a key takes no further row, whatever its attempt; INSERT OR REPLACE gets no further than this either
    """CREATE TRIGGER trials_once BEFORE INSERT ON trials
    WHEN EXISTS (SELECT 1 FROM trials WHERE id = NEW.id OR
        recipe = NEW.recipe AND seed = NEW.seed AND (status = 'done' OR attempt = NEW.attempt))
    BEGIN SELECT RAISE(ABORT, 'this trial is written already'); END""",
    "CREATE TABLE descriptions (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
    *(_REFUSE.format(table=t, verb=v) for t in ("trials", "descriptions") for v in ("UPDATE", "DELETE")),
    f"PRAGMA user_version = {FORMAT}",
)


def columns(trial: Trial, attempt: int) -> dict[str, Any]:
    """A trial as the columns of its row."""
    row: dict[str, Any] = {
        "attempt": attempt, "final": int(trial.final), "payload": trial.model_dump_json(),
        **{name: getattr(trial, name) for name in (
            "recipe", "seed", "status", "error", "seconds", "finished", "study", "task", "model", "artifact")},
    }  # fmt: skip
    if trial.measurement is None:
        return row
    seen = trial.measurement
    first = seen.latency[0] if seen.latency else None
    return row | {
        "validation": seen.validation.value if seen.validation else None, "test": seen.test.value,
        "runnable_bytes": seen.bytes.runnable, "transport_bytes": seen.bytes.transport,
        "folder_bytes": seen.bytes.folder, "parameters": seen.cost.parameters, "nonzeros": seen.cost.nonzeros,
        "macs": seen.cost.macs, "peak_memory_mib": seen.peak_memory_mib,
        "latency_ms": first.median_ms if first else None, "latency_ratio": first.ratio if first else None,
    }  # fmt: skip
