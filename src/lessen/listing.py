"""What `lessen list` shows: techniques, models and tasks with their fields, as lines, JSON and reference pages."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from lessen import catalog, models, tasks
from lessen.core.errors import UnknownName
from lessen.core.technique import Doc, Range

MADE = "Made by `make docs` from the code; `lessen list NAME` prints the same fields in short."
OPENED = {  # what a reference page says first
    "techniques": f"# Techniques\n\n{MADE}\n",
    "models": f"# Models\n\n{MADE}\n\nThe task gives the shape of the input and the classes: `resnet20(width=0.5)`.\n",
    "tasks": f'# Tasks\n\n{MADE}\n\nArguments stand in brackets: `cifar100(data="DIR", cutmix=0.5)`.\n',
}


@dataclass(frozen=True)
class Entry:
    """One name: which list it is in, what stands behind it in brackets, what it is in words, and its fields."""

    of: str
    name: str
    aside: str
    doc: str
    kind: type[BaseModel]


def known() -> dict[str, tuple[str, ...]]:
    """Every name, by the list it is in; imports no torch."""
    return {"techniques": tuple(catalog.techniques()), "models": models.names(), "tasks": tasks.names()}


def brief(what: str) -> str:
    """A line for each name of a list of models or tasks; imports no torch."""
    describe = {"models": models.describe, "tasks": tasks.describe}[what]
    width = max(map(len, known()[what]))
    return "\n".join(f"{name:<{width}}  {describe(name)}" for name in known()[what])


def entries(what: str) -> Iterator[Entry]:
    """All of a list, or what has this name; models and their fields need torch. Errors: UnknownName."""
    lists = known()
    if what not in lists and not any(what in names for names in lists.values()):
        everything = [*lists, *(name for names in lists.values() for name in names)]
        raise UnknownName("technique, model or task", what, everything)
    for of, names in lists.items():
        chosen = names if what == of else [name for name in names if name == what]
        yield from (_entry(of, name) for name in chosen)


def _entry(of: str, name: str) -> Entry:
    if of == "techniques":
        kind = catalog.technique(name)
        return Entry(of, name, f"{catalog.family(name)}; {kind.paper}", inspect.getdoc(kind) or "", kind)
    if of == "models":
        return Entry(of, name, "model", models.describe(name), models.arguments(name))
    return Entry(of, name, "task", tasks.describe(name), tasks.data_set(name))


def lines(entry: Entry) -> str:
    """A name with its fields: default, range or type, and meaning."""
    rows = [(f, default, span or kinds, doc) for f, kinds, default, span, doc in fields(entry.kind)]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    cells = ([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]] for row in rows)
    shown = ["    " + "  ".join(row).rstrip() for row in cells]
    return "\n".join([f"{entry.name}  ({entry.aside})", f"    {entry.doc.partition(chr(10))[0]}", *shown, ""])


def as_json(found: Iterable[Entry]) -> dict[str, Any]:
    """By name: what a program wants to know of it."""
    return {
        e.name: catalog.describe(e.name)
        if e.of == "techniques"
        else {"is": e.aside, "doc": e.doc, "schema": e.kind.model_json_schema()}
        for e in found
    }


def page(what: str, found: Iterable[Entry]) -> str:
    """The reference page of a list, or the part of one name; models with the same fields stand together."""
    text = [OPENED[what]] if what in OPENED else []
    alike: dict[object, list[Entry]] = {}
    for entry in found:
        alike.setdefault(tuple(fields(entry.kind)) if entry.of == "models" else entry.name, []).append(entry)
    for group in alike.values():
        text += [*_about(group), *_table(fields(group[0].kind))]
    return "\n".join(text)


def _about(group: Sequence[Entry]) -> list[str]:
    """The heading of entries with the same fields, and what they are."""
    first = group[0]
    if first.of == "models":
        return [f"## {', '.join(e.name for e in group)}", "", *(f"- `{e.name}`: {e.doc}" for e in group), ""]
    if first.of == "techniques":
        family, _, paper = first.aside.partition("; ")
        return [f"## {first.name} ({family})", "", first.doc, "", f"Paper: {paper}", ""]
    return [f"## {first.name}", "", first.doc, ""]


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    cells = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return ["| field | type | default | range | meaning |", "|---|---|---|---|---|", *cells, ""] if cells else []


def fields(kind: type[BaseModel]) -> Iterator[tuple[str, str, str, str, str]]:
    """Name, type, default, range and doc of every field."""
    plain = get_type_hints(kind)  # without the notes of what is inside a tuple
    for name, info in kind.model_fields.items():
        doc = next((m for m in info.metadata if isinstance(m, Doc)), Doc(""))
        span = f"{doc.low:g} to {doc.high:g}" if isinstance(doc, Range) else ""
        yield name, _kind(plain[name]), "needed" if info.is_required() else repr(info.default), span, doc.doc


def _kind(annotation: Any) -> str:
    """A field's type as a reader writes its values: `'layer' or 'global'`, `int`."""
    if get_origin(annotation) is Literal:
        return " or ".join(map(repr, get_args(annotation)))
    plain = get_origin(annotation) is None and isinstance(annotation, type)
    return annotation.__name__ if plain else str(annotation).replace("typing.", "")
