"""The machine under a measurement: its description, its CPUs, and a process's peak memory on it."""

from __future__ import annotations

import os
import platform
import resource
import sys
from contextlib import suppress
from pathlib import Path

from lessen.core import processor
from lessen.core.record import Machine


def describe(threads: int, runtime: str) -> Machine:
    """This machine; cores are the CPUs that this process may use, as the system counts them."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return Machine(
        cpu=processor.name(), cores=len(cpus()), threads=threads, memory_gib=round(memory, 1),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(), runtime=runtime,
    )  # fmt: skip


def cpus() -> set[int]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def pin(threads: int) -> tuple[int, ...]:
    """Bind this process to `threads` CPUs; () where the system does not allow it or has no more than these.

    Different cores come before two threads of one core; high numbers first, as CPU 0 serves most interrupts.
    """
    allowed = sorted(cpus(), reverse=True)
    if len(allowed) <= threads or not hasattr(os, "sched_setaffinity"):
        return ()
    first = {_siblings(cpu): cpu for cpu in reversed(allowed)}.values()  # the highest CPU of every core
    chosen = sorted(allowed, key=lambda cpu: (cpu not in first, -cpu))[:threads]
    with suppress(OSError):
        os.sched_setaffinity(0, chosen)
        return tuple(chosen)
    return ()


def _siblings(cpu: int) -> str:
    """The CPUs that share a core with this one, as text."""
    with suppress(OSError):
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii")
    return str(cpu)


class PeakMemory:
    """How far this process's resident memory rises above what it was when this was made.

    On Linux the peak is set back first and read from /proc: `ru_maxrss` would report the parent's peak, which a
    child inherits when it starts. Elsewhere `ru_maxrss` is all there is.
    """

    def __init__(self) -> None:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = _status("VmRSS")

    def growth_mib(self) -> float:
        """Peak since then, less what was resident then, in MiB; pages of the runtime's code are counted too."""
        return max(0.0, (_status("VmHWM") - self._before) / 2**20)


def _status(field: str) -> int:
    """A size from /proc/self/status, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
