"""The machine's lock across processes: it excludes, names its holder, and goes with it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lessen.core.errors import Busy, LessenError
from lessen.measure.quiet import lock_file, quiet_machine

HOLDER = """
import sys
from lessen.measure import quiet_machine
with quiet_machine(sys.argv[1], shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(what: str, mode: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, what, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def free(mode: int = fcntl.LOCK_EX) -> bool:
    """Whether the lock could be had now."""
    file = os.open(lock_file(), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(file)


def test_a_second_process_waits_and_says_for_whom() -> None:
    told: list[str] = []
    with holder("timing resnet8") as process:
        assert not free()

        def tell(line: str) -> None:
            told.append(line)
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()

        with quiet_machine(tell=tell):
            assert process.wait(10) == 0  # it let go first
            assert not free()
    assert told == [f"waiting until the machine is quiet: held by process {process.pid}, timing resnet8"]
    assert free()


def test_a_killed_holder_frees_it() -> None:
    with holder("timing") as process:
        process.kill()
        process.wait(10)
        with quiet_machine(tell=pytest.fail):
            pass


def test_the_wait_is_shown_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    with holder("training vgg8") as process:
        killer = threading.Timer(0.5, process.kill)
        killer.start()
        with quiet_machine():
            pass
        killer.join()
    assert f"held by process {process.pid}, training vgg8" in capfd.readouterr().err


def test_sharers_stand_beside_each_other_but_not_beside_timing() -> None:
    with holder("training", "shared"), quiet_machine("training", shared=True, tell=pytest.fail):
        assert not free(fcntl.LOCK_EX)
        assert free(fcntl.LOCK_SH)


def test_nested_use_holds_it_once() -> None:
    with quiet_machine(tell=pytest.fail) as outer:
        with quiet_machine(tell=pytest.fail) as inner, quiet_machine(shared=True, tell=pytest.fail):
            assert inner == outer
        assert not free()
    assert free()


def test_timing_within_shared_work_would_wait_for_itself() -> None:
    with quiet_machine(shared=True), pytest.raises(Busy, match="leave that block before timing"), quiet_machine():
        pass
    assert free()


def test_threads_of_one_process_exclude_each_other() -> None:
    told: list[str] = []
    released = threading.Event()

    def second() -> None:
        with quiet_machine(tell=lambda line: (told.append(line), released.set())):
            pass

    thread = threading.Thread(target=second)
    with quiet_machine("first"):
        thread.start()
        assert released.wait(10)
    thread.join(10)
    assert told == [f"waiting until the machine is quiet: held by process {os.getpid()}, first"]


def test_a_child_that_inherits_it_holds_it_too() -> None:
    """A parent killed while its worker times must not let another timing start."""
    with quiet_machine() as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    with child:
        assert not free()
        child.kill()
    assert free()


def test_an_error_inside_frees_it() -> None:
    with pytest.raises(ZeroDivisionError), quiet_machine():
        raise ZeroDivisionError
    assert free()


def test_other_users_may_open_it() -> None:
    with quiet_machine():
        assert lock_file().stat().st_mode & 0o777 == 0o666


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    lock_file().mkdir()
    with (
        pytest.raises(LessenError, match=r"cannot be opened \(Is a directory\); remove it or set TMPDIR"),
        quiet_machine(),
    ):
        pass
