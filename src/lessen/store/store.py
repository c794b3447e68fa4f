"""Trials go in once and never change; reading gives the latest attempt of every recipe and seed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from pydantic import ValidationError

from lessen.core.errors import BadStudy
from lessen.core.trial import Trial
from lessen.store.schema import FORMAT, STATEMENTS, columns

MENDS = {
    "file is not a database": "; it is no study.db",
    "database or disk is full": "; free some space",
    "disk I/O error": "; see whether the disk is full or failing, what is done is kept",
    "unable to open database file": "; see whether its folder may be written",
    "attempt to write a readonly database": "; see whether its folder may be written",
}
READ_ONLY = ("unable to open database file", "attempt to write a readonly database")


class Store:
    """One study.db. The first write makes the file; reading one that is not there is an error.

    A key is (recipe, seed). A failed trial that is run again adds a row with the next attempt; a done one takes
    no further row. Errors: BadStudy, one line.

    >>> store = Store("runs/demo/study.db")  # doctest: +SKIP
    >>> [trial.recipe for trial in store.trials()]  # doctest: +SKIP
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None

    def add(self, trial: Trial) -> None:
        """Write one row. Errors: BadStudy when this recipe and seed are done already."""
        with self._writing() as db:
            (attempts,) = db.execute("SELECT count(*) FROM trials WHERE recipe = ? AND seed = ?", trial.key).fetchone()
            row = columns(trial, attempts + 1)
            db.execute(f"INSERT INTO trials ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])

    def trials(self) -> list[Trial]:
        """The latest attempt of every key, in the order of writing."""
        rows = self._read(
            "SELECT payload FROM trials AS t WHERE attempt ="
            " (SELECT max(attempt) FROM trials WHERE recipe = t.recipe AND seed = t.seed) ORDER BY id"
        )
        try:
            return [Trial.model_validate_json(payload) for (payload,) in rows]
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise BadStudy(f"{self.path} holds a trial that cannot be read: {where}: {first['msg']}") from None

    def done(self) -> set[tuple[str, int]]:
        """Keys that need no more work."""
        return set(self._read("SELECT recipe, seed FROM trials WHERE status = 'done'"))

    def describe(self) -> str | None:
        """The study's own text as last set; None before that."""
        return next((text for (text,) in self._read("SELECT text FROM descriptions ORDER BY id DESC LIMIT 1")), None)

    def set_description(self, text: str) -> None:
        """Keep the study's own text; earlier ones stay in the file."""
        with self._writing() as db:
            last = db.execute("SELECT text FROM descriptions ORDER BY id DESC LIMIT 1").fetchone()
            if last != (text,):
                db.execute("INSERT INTO descriptions (text) VALUES (?)", [text])

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, query: str) -> list[tuple]:
        if not self.path.is_file():
            raise BadStudy(f"there is no study at {self.path}; run `lessen study` first or name another folder")
        with self._speaking():
            return self._open().execute(query).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: whole or not there."""
        with self._speaking():
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._connect(str(self.path))
            except sqlite3.OperationalError as e:
                if str(e) not in READ_ONLY or not self.path.is_file() or self._rows_beside():
                    raise
                # beside the file readers write one that they share; where they cannot, nobody can change it either
                self._connection = self._connect(f"file:{quote(str(self.path.absolute()))}?immutable=1")
        return self._connection

    def _rows_beside(self) -> bool:
        """Whether rows wait in the log beside the file (-wal), which a reader of the file alone would miss."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return log.is_file() and log.stat().st_size > 0

    def _connect(self, name: str) -> sqlite3.Connection:
        db = sqlite3.connect(name, timeout=30, isolation_level=None, uri=name.startswith("file:"))
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN")  # a reader's lock: version and tables belong together
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        db.execute("COMMIT")
        if version != FORMAT and (version or tables):
            kind = f"has study format {version}, this version reads {FORMAT}" if version else "is SQLite but no study"
            raise BadStudy(f"{self.path} {kind}; name another run folder")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # a row that was reported survives a power cut, too
        if version == 0:
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone() == (0,):  # nobody else was faster
                for statement in STATEMENTS:
                    db.execute(statement)
            db.execute("COMMIT")

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        """SQLite's errors as ours, in one line."""
        try:
            yield
        except sqlite3.IntegrityError as e:
            raise BadStudy(f"{self.path}: {e}") from None
        except sqlite3.DatabaseError as e:
            text = str(e)
            raise BadStudy(f"cannot use {self.path}: {text}{MENDS.get(text, '')}") from None
