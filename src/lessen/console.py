"""How the command line prints: tables for people, JSON for programs, one line for an error."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from lessen.core.record import Measurement, Score
    from lessen.core.technique import Technique


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


def share(score: Score | None) -> str:
    """A score in percent with its interval."""
    return "-" if score is None else f"{score.value:.2%} [{score.low:.2%}, {score.high:.2%}]"


def measurements(columns: dict[str, Measurement]) -> None:
    """Artifacts side by side, one a column; the first is the baseline where there are two."""
    from rich.console import Console
    from rich.table import Table

    first = next(iter(columns.values()))
    table = Table(
        title=f"{first.machine.cpu}, {first.machine.threads} thread, {first.machine.runtime}", title_justify="left"
    )
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for label, read in _rows(first):
        table.add_row(label, *(read(m) for m in columns.values()))
    Console().print(table)
    for name, m in columns.items():
        for note in m.notes:
            print(f"{name}: {note}")


def _rows(first: Measurement) -> Iterator[tuple[str, Callable[[Measurement], str]]]:
    yield "validation score [95 %]", lambda m: share(m.validation)
    yield f"test score [95 %], n = {first.test.n}", lambda m: share(m.test)
    yield "runnable bytes", lambda m: _against(m.bytes.runnable, first.bytes.runnable)
    yield "transport bytes (zstd -19)", lambda m: _against(m.bytes.transport, first.bytes.transport)
    yield "folder bytes", lambda m: size(m.bytes.folder)
    yield "parameters", lambda m: f"{m.cost.parameters:,}"
    yield "non-zero", lambda m: f"{m.cost.nonzeros:,}"
    yield "multiply-accumulates", lambda m: f"{m.cost.macs:,}"
    for i, row in enumerate(first.latency):
        yield f"latency, batch {row.batch}, n = {row.n}", lambda m, i=i: _latency(m, i)
    yield "peak memory", lambda m: f"{m.peak_memory_mib:.1f} MiB"


def _against(count: int, baseline: int) -> str:
    return size(count) if count == baseline else f"{size(count)} ({baseline / max(count, 1):.2f}x smaller)"


def _latency(m: Measurement, i: int) -> str:
    row = m.latency[i]
    text = f"{row.median_ms:.3f} ms, IQR {row.iqr_ms:.3f}"
    return text if row.ratio is None else f"{text} ({1 / row.ratio:.2f}x faster)"


def techniques(found: dict[str, type[Technique]], family: Callable[[str], str]) -> None:
    """Every technique with its paper and its fields: default, range and meaning."""
    for name, kind in found.items():
        print(f"{name}  ({family(name)}; {kind.paper})")
        print(f"    {(kind.__doc__ or '').strip().splitlines()[0]}")
        rows = [(f, default, span or kinds, doc) for f, kinds, default, span, doc in fields(kind)]
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        for row in rows:
            print("    " + "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]).rstrip())
        print()


def fields(kind: type[Technique]) -> Iterator[tuple[str, str, str, str, str]]:
    """Name, type, default, range and doc of every field, read from the JSON schema."""
    from lessen.core.technique import Doc, Range

    plain = get_type_hints(kind)  # without the notes of what is inside a tuple
    for name, info in kind.model_fields.items():
        doc = next((m for m in info.metadata if isinstance(m, Doc)), Doc(""))
        span = f"{doc.low:g} to {doc.high:g}" if isinstance(doc, Range) else ""
        yield name, _kind(plain[name]), repr(info.default), span, doc.doc


def _kind(annotation: Any) -> str:
    """A field's type as a reader writes its values: `'layer' or 'global'`, `int`."""
    if get_origin(annotation) is Literal:
        return " or ".join(map(repr, get_args(annotation)))
    plain = get_origin(annotation) is None and isinstance(annotation, type)
    return annotation.__name__ if plain else str(annotation).replace("typing.", "")


def markdown(found: dict[str, type[Technique]], family: Callable[[str], str]) -> str:
    """The reference page of all techniques."""
    lines = ["# Techniques", "", "Made by `make docs` from the code; `lessen list NAME` prints the same.", ""]
    for name, kind in found.items():
        lines += [f"## {name} ({family(name)})", "", inspect.getdoc(kind) or "", "", f"Paper: {kind.paper}", ""]
        rows = list(fields(kind))
        if rows:
            lines += ["| field | type | default | range | meaning |", "|---|---|---|---|---|"]
            lines += ["| " + " | ".join(cell.replace("|", "or") for cell in row) + " |" for row in rows] + [""]
    return "\n".join(lines)


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
