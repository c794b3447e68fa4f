"""How the command line prints: tables for people, JSON for programs, one line for an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from lessen.core.record import Measurement, Score


def print_json(value: Any) -> None:
    """One JSON document on standard output and nothing else."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def size(count: int | float) -> str:
    """Bytes as people read them, in powers of 1,000.

    >>> size(412_300)
    '412 kB'
    """
    for unit in ("B", "kB", "MB"):
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def measurements(columns: dict[str, Measurement], what: dict[str, str]) -> None:
    """One artifact, or two side by side and how the second differs from the first.

    what: by column, the folder and what else names the artifact; printed above, where it may be long.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    first, *others = columns.values()
    for name, text in what.items():
        print(f"{name + ':':<{max(map(len, what)) + 1}} {text}")
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    if others:
        table.add_column("change", justify="right")
    for label, read, compare in _rows(first):
        change = [compare(first, m) for m in others]
        table.add_row(label, *map(read, columns.values()), *change)
    print()
    Console().print(table)
    print(_explained(first, others))
    for name, m in columns.items():
        for note in m.notes:
            print(f"{name}: {note}")


Read = Callable[["Measurement"], str]
Compare = Callable[["Measurement", "Measurement"], str]


def _rows(first: Measurement) -> Iterator[tuple[str, Read, Compare]]:
    """Label, how a column shows it, and how the second differs from the first."""
    for name in ("validation", "test"):
        score: Score | None = getattr(first, name)
        label = f"{name}, n = {score.n}" if score else name
        yield label, lambda m, n=name: _share(getattr(m, n)), lambda a, b, n=name: _points(getattr(a, n), getattr(b, n))
    for name, label in (("runnable", "runnable bytes"), ("transport", "transport (zstd -19)"), ("folder", "folder")):
        yield label, lambda m, n=name: size(getattr(m.bytes, n)), lambda a, b, n=name: _times(
            getattr(b.bytes, n), getattr(a.bytes, n), "smaller", "larger"
        )  # fmt: skip
    for name, label in (("parameters", "parameters"), ("nonzeros", "non-zero"), ("macs", "multiply-accumulates")):
        yield label, lambda m, n=name: f"{getattr(m.cost, n):,}", lambda a, b, n=name: _times(
            getattr(b.cost, n), getattr(a.cost, n), "fewer", "more"
        )  # fmt: skip
    for i, row in enumerate(first.latency):
        yield (
            f"ms, batch {row.batch}, n = {row.n}",
            lambda m, i=i: f"{m.latency[i].median_ms:.3g}, IQR {m.latency[i].iqr_ms:.2g}",
            lambda a, b, i=i: _times(b.latency[i].ratio, 1.0, "faster", "slower"),
        )
    yield "peak memory", lambda m: f"{m.peak_memory_mib:.1f} MiB", lambda a, b: ""


def _share(score: Score | None) -> str:
    """A score in percent with its interval."""
    return "-" if score is None else f"{score.value:.2%} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def _points(before: Score | None, after: Score | None) -> str:
    return "" if before is None or after is None else f"{100 * (after.value - before.value):+.2f} points"


def _times(ours: float | None, theirs: float, less: str, more: str) -> str:
    """3.79x smaller, 1.04x larger, or nothing where both are the same."""
    if not ours or not theirs or ours == theirs:
        return ""
    return f"{theirs / ours:.2f}x {less}" if ours < theirs else f"{ours / theirs:.2f}x {more}"


def _explained(first: Measurement, others: list[Measurement]) -> str:
    """What the numbers are and where they were taken."""
    from lessen.core.record import TOP1

    machine = first.machine
    threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
    scores = "Scores" if first.test.by == TOP1 else f"Scores by the task's {first.test.by}"
    lines = [
        f"{machine.cpu}, {machine.cores} cores; {machine.runtime} on {threads}.",
        f"{scores} with 95 % intervals; ms: median of n runs and their interquartile range.",
    ]
    noise = [f"{row.ratio:.2f}x at batch {row.batch}" for row in first.latency if row.ratio is not None]
    if others and noise:
        lines.append(
            "Faster, slower: median over runs alternated with the first file, run by run;\n"
            f"that file against itself took {' and '.join(noise)}: the noise."
        )
    return "\n".join(lines)


def on_stderr() -> Console:
    """Where people look while standard output is read by a program."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def progress(title: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on a terminal, nothing elsewhere; yields the callback that a run takes."""
    if not sys.stderr.isatty():
        yield lambda fraction, text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = TextColumn("{task.fields[title]}"), BarColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True)) as bar:
        job = bar.add_task("", total=1.0, title=title)
        yield lambda fraction, text: bar.update(job, completed=fraction, description=text)
