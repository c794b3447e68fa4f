"""Curves and heatmap of a scan as plain plotly data, in the colours of the reports."""

from __future__ import annotations

from html import escape
from typing import Any

from lessen.inspect.findings import CLIPPING, HOLDS, Row, Scan, named, rising
from lessen.inspect.words import AMOUNT
from lessen.report.figures import AXIS, BASE, Figure
from lessen.report.figures import named as axis_title

FIRST, LAST = (10, 101, 166), (192, 77, 5)  # of the layer at the input, and of the one at the output
UNIT = {"bits": "bits", **dict.fromkeys(CLIPPING, "coverage in %")}  # of the ticks
LABELS = 30  # layers up to which the heatmap shows numbers


def curves(scan: Scan) -> Figure:
    """Score against ratio, a line for every layer, coloured by depth; dense and 95 % of it as dotted lines."""
    n = len(scan.rows)
    lines = [_line(scan, row, i / max(1, n - 1)) for i, row in enumerate(scan.rows)]
    edge = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "layer": "below"}
    levels = ((scan.dense, "dense", "bottom"), (HOLDS * scan.dense, "95 % of dense", "top"))
    shapes = [
        {**edge, "y0": 100 * y, "y1": 100 * y, "line": {"width": 1.2, "dash": "dot", "color": "var(--soft)"}}
        for y, *_ in levels
    ]
    notes = [
        {"xref": "paper", "x": 0, "y": 100 * y, "text": text, "showarrow": False, "xanchor": "left", "yanchor": anchor,
         "font": {"size": 11, "color": "var(--soft)"}}
        for y, text, anchor in levels
    ]  # fmt: skip
    low = min(score for row in scan.rows for score in row.scores)
    layout = {
        **BASE, "height": 400, "margin": {"l": 52, "r": 12, "t": 16, "b": 48}, "shapes": shapes, "annotations": notes,
        "showlegend": False,
        "xaxis": {**AXIS, "title": _amounts(scan), "tickvals": _places(scan),
                  "ticktext": ["dense", *_ticks(scan)], "range": [-0.03, _places(scan)[-1] + 0.03]},
        "yaxis": {**AXIS, "title": axis_title("validation score, %"),
                  "range": [max(0, 100 * low - 4), min(103, 100 * max(_all(scan)) + 4)]},
    }  # fmt: skip
    _name_worst(scan, lines)
    return {"data": lines, "layout": layout}


def _name_worst(scan: Scan, lines: list[Figure]) -> None:
    """The most sensitive layer's name at its line, half way down."""
    row = scan.ranked[0]
    half = (scan.dense + min(row.scores)) / 2
    fallen = 1 + next(i for i, score in enumerate(row.scores) if score <= half)
    if row.drop > 0:
        text = [""] * (len(scan.ratios) + 1)
        text[fallen] = f"{escape('.'.join(row.path.split('.')[-3:]))} "
        line = lines[scan.rows.index(row)]
        line |= {"mode": "lines+markers+text", "text": text, "textposition": "middle left",
                 "textfont": {"size": 11, "color": line["line"]["color"]}}  # fmt: skip


def _places(scan: Scan) -> list[float]:
    """Where dense and the ratios stand on the axis; bits, which halve, stand evenly."""
    even = [i / len(scan.ratios) for i in range(1 + len(scan.ratios))]
    return [0.0, *scan.ratios] if rising(scan.kind) else even


def _amounts(scan: Scan) -> Any:
    """The title of the axis of ratios."""
    return axis_title(AMOUNT[scan.kind] + (", %" if scan.kind in CLIPPING else ""))


def _ticks(scan: Scan) -> list[str]:
    return [scan.amount(r).removesuffix(" bits").removesuffix(" %") for r in scan.ratios]


def _all(scan: Scan) -> list[float]:
    return [scan.dense, *(score for row in scan.rows for score in row.scores)]


def _line(scan: Scan, row: Row, depth: float) -> Figure:
    colour = "rgb({}, {}, {})".format(*(round(a + (b - a) * depth) for a, b in zip(FIRST, LAST, strict=True)))
    return {
        "type": "scatter", "mode": "lines+markers", "name": escape(row.path), "x": _places(scan),
        "customdata": ["dense", *map(scan.amount, scan.ratios)],
        "y": [100 * scan.dense, *(100 * score for score in row.scores)], "line": {"width": 1.8, "color": colour},
        "marker": {"size": 5}, "hovertemplate": f"{escape(row.path)}<br>%{{customdata}}: %{{y:.1f}} %<extra></extra>",
    }  # fmt: skip


def heatmap(scan: Scan) -> Figure:
    """Points lost by layer (input at the top) and ratio; gains are drawn as no loss."""
    rows = scan.rows[::-1]
    lost = [[100 * (scan.dense - score) for score in row.scores] for row in rows]
    text = [[f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}" for value in line] for line in lost]
    few, unit = len(rows) <= LABELS, UNIT.get(scan.kind, "ratio")
    data: dict[str, Any] = {
        "type": "heatmap", "z": [[max(0.0, v) for v in line] for line in lost], "x": _ticks(scan),
        "y": list(range(len(rows))), "customdata": [[_about(row)] * len(scan.ratios) for row in rows],
        "colorscale": [[0, "var(--card)"], [1, "var(--prune)"]], "zmin": 0, "xgap": 2, "ygap": 2, "text": text,
        "hovertemplate": f"%{{customdata}}<br>{unit} %{{x}}: %{{text}} points lost<extra></extra>",
        "colorbar": {"title": {"text": "points<br>lost", "font": {"size": 11}}, "thickness": 10, "outlinewidth": 0},
    }  # fmt: skip
    if few:
        data |= {"texttemplate": "%{text}", "textfont": {"size": 11, "color": "var(--ink)"}}
    layout = {
        **BASE, "height": max(400, 60 + (24 if few else 14) * len(rows)),
        "margin": {"l": 40, "r": 8, "t": 16, "b": 48},
        "xaxis": {**AXIS, "type": "category", "title": _amounts(scan), "showgrid": False},
        "yaxis": {**AXIS, "tickvals": list(range(len(rows))), "ticktext": [_label(row) for row in rows],
                  "showgrid": False, "tickfont": {"size": 11}},
    }  # fmt: skip
    return {"data": [data], "layout": layout}


def _label(row: Row, most: int = 34) -> str:
    """A path's end, which tells layers apart, and how many change with it."""
    more = f" +{len(row.layers) - 1}" if len(row.layers) > 1 else ""
    return escape(row.path if len(row.path) <= most else f"…{row.path[1 - most :]}") + more


def _about(row: Row) -> str:
    return f"<b>{escape(named(row))}</b><br>{row.weights:,} weights"
