"""Who waits for whom: locks that the system lets go of when their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lessen.core.errors import Busy


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a run folder. Errors: Busy, saying which process holds it, where and since when."""
    with (folder / "lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise Busy(f"{folder} is in use by {holder}; wait for it, stop it, or name another folder") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
        file.flush()
        yield


@contextmanager
def while_nothing_is_timed(what: str, progress: Callable[[float, str], None]) -> Iterator[None]:
    """For training and packing, which may go on beside each other; a wait for what is timed is told to `progress`."""
    from lessen.measure import quiet_machine

    with quiet_machine(what, shared=True, tell=partial(progress, 0.0)):
        yield


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for a lock file and hold it; whoever leaves without an error removes it.

    A waiter may then hold a removed file while a newcomer holds a new one. That is harmless where the work
    under the lock is done by then, and both look first.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)
