"""What a step noted of each layer, drawn whatever it is: one number as a bar, two as a line from one to the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lessen.core.record import Record
from lessen.report.families import names
from lessen.report.figures import AXIS, BASE, Figure, wrap
from lessen.report.summary import Line

MOST = 200  # layers in one picture
Values = dict[str, tuple[float, ...]]  # layer -> one number, or two


def layers(line: Line) -> list[dict[str, Any]]:
    """Title and figure of every mapping of layers to numbers in the records of the first seed."""
    if not line.records:
        return []
    seed, records = line.records[0]
    return [
        {"title": f"{' + '.join(names(r.technique))}: {title}, seed {seed}", "figure": _figure(line.family, values)}
        for r in records
        for title, values in numbers(r)
    ]


def numbers(record: Record) -> Iterator[tuple[str, Values]]:
    """Every mapping of two names or more to a finite number, or to a pair of them, in a record's details.

    {"kept": {"conv1": 0.5, "conv2": 0.7}} and {"layers": {"conv1": {"kept": 0.5}, "conv2": {"kept": 0.7}}} give the
    same picture; the second is turned round. Lists of two numbers are pairs: before and after, or low and high.
    """
    for key, node in record.details.items():
        yield from _walk(key.replace("_", " "), node)


def _walk(path: str, node: Any) -> Iterator[tuple[str, Values]]:
    if not isinstance(node, Mapping):
        return
    for length in (1, 2):
        flat = {str(k): v for k, item in node.items() if len(v := _numbers(item)) == length}
        if len(flat) >= 2:
            yield path, flat
    inner = {str(k): v for k, v in node.items() if isinstance(v, Mapping)}
    if len(inner) < 2:
        for name, child in inner.items():
            yield from _walk(f"{path}, {name}", child)
        return
    for key in dict.fromkeys(k for v in inner.values() for k in v):
        yield from _walk(f"{path}, {key}", {name: v[key] for name, v in inner.items() if key in v})


def _numbers(value: Any) -> tuple[float, ...]:
    """A number as one, a pair as two; anything else, and what is not finite, as none."""
    items: Sequence[Any] = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    numeric = [float(v) for v in items if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    return tuple(numeric) if len(numeric) == len(items) else ()


def _figure(family: str, values: Values) -> Figure:
    shown = list(values.items())[:MOST]
    rows = list(range(len(shown)))
    ticks = {"tickvals": rows, "ticktext": [wrap(name, 60) for name, _ in shown]}
    layout = {
        **BASE, "height": 70 + 20 * len(shown), "margin": {"l": 8, "r": 16, "t": 6, "b": 34}, "showlegend": False,
        "xaxis": AXIS, "bargap": 0.35,
        "yaxis": {**AXIS, "autorange": "reversed", "ticks": "", "ticklabelstandoff": 6, "showgrid": False, **ticks},
    }  # fmt: skip
    tips = [f"{wrap(name)}: {' to '.join(f'{x:.6g}' for x in v)}" for name, v in shown]
    common = {"y": rows, "hovertext": tips, "hoverinfo": "text"}
    colour = f"var(--{family})"
    if len(shown[0][1]) == 1:
        bars = {"type": "bar", "orientation": "h", "x": [v[0] for _, v in shown], "marker": {"color": colour}, **common}
        return {"data": [bars], "layout": layout}
    span = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 2, "color": "var(--soft)"},
            "x": [x for _, v in shown for x in (*v, None)], "y": [y for i in rows for y in (i, i, None)]}  # fmt: skip
    ends = [
        {"type": "scatter", "mode": "markers", "x": [v[end] for _, v in shown], **common,
         "marker": {"size": 9, "symbol": symbol, "color": colour, "line": {"width": 2, "color": colour}}}
        for end, symbol in enumerate(("circle-open", "circle"))
    ]  # fmt: skip
    return {"data": [span, *ends], "layout": layout}
