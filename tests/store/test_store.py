"""Rows go in once, come back equal, and stay."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lessen.core.errors import BadStudy
from lessen.core.record import Bytes, Cost, Epoch, Latency, Machine, Measurement, Record, Score
from lessen.core.trial import Trial
from lessen.store import Store

COST = Cost(parameters=10, nonzeros=8, macs=100, weight_bits=320)


def trial(recipe: str = "Int8()", seed: int = 0, **changed) -> Trial:
    measurement = Measurement(
        validation=Score(value=0.9, low=0.8, high=0.95, n=100), test=Score(value=0.8, low=0.7, high=0.9, n=200),
        bytes=Bytes(runnable=1000, transport=900, folder=3000), cost=COST,
        latency=(Latency(batch=1, median_ms=0.25, iqr_ms=0.01, n=30, ratio=0.5, ratio_iqr=0.02),),
        peak_memory_mib=50.0, operators={"QLinearConv": 3},
        machine=Machine(cpu="c", cores=2, threads=1, memory_gib=8.0, system="s", python="3.11", runtime="r"),
    )  # fmt: skip
    record = Record(
        technique="Int8()", seed=seed, seconds=0.1 + 0.2, before=COST, after=COST, score=1 / 3,
        history=(Epoch(epoch=1, loss=0.1, score=None, lr=0.01, seconds=1.0),),
    )  # fmt: skip
    whole = Trial(
        study="s", recipe=recipe, seed=seed, status="done", task="digits()", task_fingerprint="f", model="cnn",
        records=(record,), measurement=measurement, seconds=1.5, finished="2026-01-02T03:04:05Z",
    )  # fmt: skip
    return whole.model_copy(update=changed)


def failed(recipe: str = "Int8()", error: str = "Refused: no") -> Trial:
    return trial(recipe, status="failed", error=error, measurement=None)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "study.db") as made:
        yield made


def test_a_trial_comes_back_equal(store):
    store.add(trial())
    store.add(trial("Int8()", 1))
    store.close()
    assert Store(store.path).trials() == [trial(), trial("Int8()", 1)]
    assert Store(store.path).done() == {("Int8()", 0), ("Int8()", 1)}


def test_columns_are_there_for_people(store):
    store.add(trial())
    query = (
        "SELECT recipe, seed, validation, test, runnable_bytes, transport_bytes, latency_ms, latency_ratio FROM trials"
    )
    assert sqlite3.connect(store.path).execute(query).fetchall() == [("Int8()", 0, 0.9, 0.8, 1000, 900, 0.25, 0.5)]


def test_a_done_trial_takes_no_second_row(store):
    store.add(trial())
    for again in (trial(), failed()):
        with pytest.raises(BadStudy, match="written already"):
            store.add(again)
    assert store.trials() == [trial()]


def test_a_failed_trial_may_be_tried_again_and_the_latest_counts(store):
    store.add(failed(error="Refused: first"))
    store.add(failed(error="Refused: second"))
    assert [t.error for t in store.trials()] == ["Refused: second"] and store.done() == set()
    store.add(trial())
    assert store.trials() == [trial()]
    rows = sqlite3.connect(store.path).execute("SELECT attempt, status FROM trials ORDER BY id").fetchall()
    assert rows == [(1, "failed"), (2, "failed"), (3, "done")]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET test = 1.0",
        "DELETE FROM trials",
        "UPDATE trials SET error = 'x' WHERE status = 'failed'",
        "INSERT OR REPLACE INTO trials SELECT * FROM trials WHERE status = 'failed'",
        "DELETE FROM descriptions",
    ],
)
def test_rows_never_change_even_by_hand(store, statement):
    store.add(trial())
    store.add(failed("Other()"))
    store.set_description("text")
    with sqlite3.connect(store.path) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)
    assert store.trials() == [trial(), failed("Other()")]


def test_description_keeps_the_latest(store):
    for text in ("one", "two", "two"):
        store.set_description(text)
    assert store.describe() == "two"
    assert sqlite3.connect(store.path).execute("SELECT text FROM descriptions").fetchall() == [("one",), ("two",)]


def test_reading_makes_no_file(tmp_path):
    with pytest.raises(BadStudy, match="there is no study at"):
        Store(tmp_path / "study.db").trials()
    assert not (tmp_path / "study.db").exists()


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(BadStudy, match="unable to open database file"):
        Store(tmp_path / "none" / "study.db").add(trial())


def test_no_sqlite_file_is_refused(tmp_path):
    path = tmp_path / "study.db"
    path.write_bytes(b"this is no database" * 100)
    for use in (Store(path).trials, lambda: Store(path).add(trial())):
        with pytest.raises(BadStudy, match="file is not a database; it is no study"):
            use()
    assert path.read_bytes() == b"this is no database" * 100


def test_another_format_is_refused(store):
    store.add(trial())
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(BadStudy, match="has study format 7, this version reads 1"):
        Store(store.path).trials()


def test_another_database_is_refused(tmp_path):
    path = tmp_path / "study.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE photos (id)")
    with pytest.raises(BadStudy, match="is SQLite but no study"):
        Store(path).add(trial())


def test_a_payload_that_is_no_trial_is_named(store):
    store.add(trial())
    with sqlite3.connect(store.path) as db:
        rest = "status, error, seconds, finished, study, task, model, final, artifact"
        db.execute(
            f"INSERT INTO trials (recipe, seed, attempt, payload, {rest})"
            f" SELECT 'X()', 0, 1, '{{\"seed\": 3}}', {rest} FROM trials"
        )
    with pytest.raises(BadStudy, match="holds a trial that cannot be read: study"):
        store.trials()


def test_rows_survive_kill_9(tmp_path):
    path = tmp_path / "study.db"
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_store import Store, trial\n"
        "s = Store(sys.argv[1]); s.add(trial()); s.add(trial('B()')); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path), str(Path(__file__).parent)], capture_output=True)
    assert run.returncode == -9
    assert Store(path).trials() == [trial(), trial("B()")]


@pytest.mark.parametrize("text", ["attempt to write a readonly database", "unable to open database file"])
def test_a_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch, text):
    """Readers of a file in WAL mode share another one beside it, which cannot be made there."""
    path = tmp_path / "no 1 # of 2?" / "study.db"
    path.parent.mkdir()
    with Store(path) as store:
        store.add(trial())
    opened, connect = [], sqlite3.connect

    def read_only(name, **kwargs):
        opened.append(name)
        if not name.startswith("file:"):
            raise sqlite3.OperationalError(text)
        return connect(name, **kwargs)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with Store(path) as store:
        assert store.trials() == [trial()] and len(opened) == 2
        with pytest.raises(BadStudy, match="readonly database; see whether its folder may be written"):
            store.add(trial(seed=1))


def test_rows_that_wait_beside_a_file_that_cannot_be_written_are_not_left_out(tmp_path, monkeypatch):
    path = tmp_path / "study.db"
    with Store(path) as store:
        store.add(trial())
        kept = path.with_name("study.db-wal").read_bytes()
    path.with_name("study.db-wal").write_bytes(kept)
    opened = []

    def read_only(name, **kwargs):
        opened.append(name)
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", read_only)
    assert kept
    with pytest.raises(BadStudy, match="unable to open database file; see whether its folder may be written"):
        Store(path).trials()
    assert opened == [str(path)]
