"""One lock for the whole machine: while something is timed, nothing else of any study times or trains.

An flock belongs to the open file, so the system frees it when its holder dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lessen.core.errors import Busy, LessenError

_held = threading.local()  # .lock: (file descriptor, shared) while this thread holds the lock


def lock_file() -> Path:
    """In the system's folder for temporary files, the same for all users who share that folder."""
    return Path(tempfile.gettempdir()) / "lessen-quiet-machine.lock"


def say(text: str) -> None:
    """The default way to show a wait: one line on standard error."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def quiet_machine(what: str = "timing", *, shared: bool = False, tell: Callable[[str], None] = say) -> Iterator[int]:
    """Hold the machine's lock; yields its file descriptor, which a child process may inherit to hold it too.

    >>> with quiet_machine("timing resnet8"):  # nothing else of any study is timed or trained meanwhile
    ...     pass

    shared: for work that must not disturb timing but may run beside other such work (training).
    tell: called once, with a line that names the holder, when there is a wait.
    Nested use in one thread holds the lock once. Errors: Busy when a thread that shares it asks for it alone.
    """
    outer = getattr(_held, "lock", None)
    if outer is not None:
        if outer[1] and not shared:
            raise Busy("this thread holds the machine's lock for training; leave that block before timing")
        yield outer[0]
        return
    try:
        file = _open(lock_file())
    except OSError as e:
        raise LessenError(f"{lock_file()} cannot be opened ({e.strerror}); remove it or set TMPDIR") from None
    try:
        _lock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, tell)
        os.truncate(file, 0)
        os.pwrite(file, f"process {os.getpid()}, {what}".encode(), 0)
        _held.lock = (file, shared)
        yield file
    finally:
        _held.lock = None
        os.close(file)


def _open(path: Path) -> int:
    """Open for all users; without O_CREAT first, which systems refuse in a shared folder for another user's file."""
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with suppress(PermissionError):  # another user was first
        os.fchmod(file, 0o666)  # the umask took the others' rights
    return file


def _lock(file: int, mode: int, tell: Callable[[str], None]) -> None:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, 200, 0).decode(errors="replace") or "another process"
        tell(f"waiting until the machine is quiet: held by {holder}")
        fcntl.flock(file, mode)
