"""Runs `lessen` as a shell would: in this process where that is enough, in a process of its own where it is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from lessen import cli

TINY = "digits(limit=100)/cnn(width=0.25)"
BRIEFLY = "Finetune(epochs=1)"


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class Shell:
    """`shell("list", "Int8")`; no exception but SystemExit may come through `main`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *args: object) -> Ran:
        self.capsys.readouterr()
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["lessen", *map(str, args)])
            patch.setattr(sys, "path", list(sys.path))
            with pytest.raises(SystemExit) as ended:
                cli.main()
        code = ended.value.code
        assert isinstance(code, int)
        return Ran(code, *self.capsys.readouterr())

    def done(self, *args: object) -> str:
        """What it printed; it must succeed."""
        ran = self(*args)
        assert ran.code == 0, ran.err
        return ran.out

    def refuses(self, *args: object, code: int = 1) -> str:
        """Its one line on standard error."""
        ran = self(*args)
        assert (ran.code, ran.out) == (code, ""), ran
        return one_line(ran.err)


def one_line(err: str) -> str:
    assert err.startswith("lessen: ") and err.count("\n") == 1 and err.endswith("\n"), err
    return err.removeprefix("lessen: ").strip()


def process(*args: object, code: str = "from lessen.cli import main; main()", **settings) -> subprocess.Popen[str]:
    """The same in a process of its own; `code` is what it runs."""
    command = [sys.executable, "-c", code, *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    settings = {"preexec_fn": interruptible, **settings}
    return subprocess.Popen(command, text=True, **pipes, **settings)  # type: ignore[call-overload]


def interruptible() -> None:
    """As in a terminal: a shell that runs the tests in the background has its children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def write_study(path: Path, *recipes: str, **more: object) -> Path:
    """A study file on digits that takes a moment; `more` are further lines, or lines to replace."""
    fields = {"name": "tiny", "task": "digits(limit=100)", "model": "cnn(width=0.25)", "baseline": BRIEFLY, **more}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    lines += ["target: {runs: 3}", "recipes:", *(f"  - {recipe}" for recipe in recipes)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
