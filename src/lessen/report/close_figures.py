"""Closeness as pictures: the same answers and KL, arm by arm or over x; for the page and, as SVG, for documents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lessen.analyze.closeness import Amount, Closeness, Near
from lessen.analyze.findings import Finding
from lessen.analyze.points import Point
from lessen.report import pictures
from lessen.report.axes import at, axis, look
from lessen.report.closeness import SHARES, nats
from lessen.report.figures import AXIS, BASE, Figure, named, wrap
from lessen.report.question_figures import LEGEND, style

TITLES = {"agreement": "Same answer as the baseline", "kl": "Distance of its shares from the baseline's"}
UNITS = {"agreement": "same answer, % of test images", "kl": "KL, nats"}
OTHER = "baselines of two seeds"


class Mark(NamedTuple):
    """One recipe as drawn: its arm's place in colours, x on the axis, and its amount in the picture's unit."""

    i: int
    arm: str
    x: float
    amount: Amount


def figures(close: Closeness, f: Finding) -> list[tuple[str, Figure]]:
    """Titles and plotly data."""
    return [(TITLES[m], _lines(close, f, m) if f.curves else _rows(close, f, m)) for m in TITLES if close.nears]


def _marks(close: Closeness, f: Finding, measure: str) -> list[Mark]:
    """All points that have a place."""
    found = []
    for i, p in enumerate(f.points):
        near = close.near(p.arm, p.recipe)
        if near is not None and (p.x is not None or not f.curves):
            order = f.arms.index(p.arm) if f.curves else i
            found.append(Mark(order, p.arm, _x(f, p), _scaled(near, measure)))
    return found


def _x(f: Finding, p: Point) -> float:
    return at(f, p.x or 0.0) if f.curves else 0.0


def _scaled(near: Near, measure: str) -> Amount:
    amount, k = near.amounts[measure], 100 if measure in SHARES else 1
    values = tuple(k * v for v in amount.values)
    return Amount(value=k * amount.value, low=k * amount.low, high=k * amount.high, values=values)


def _between(close: Closeness, measure: str) -> float | None:
    value = close.between.get(measure)
    return None if value is None else value * (100 if measure in SHARES else 1)


def _range(marks: Sequence[Mark], scale: float | None, measure: str) -> tuple[float, float]:
    """From the lowest to the highest that is drawn, with air; distances start at zero."""
    ends = [v for m in marks for v in (m.amount.low, m.amount.high, *m.amount.values)]
    ends += [scale] if scale is not None else []
    low, high = min(ends), max(ends)
    air = 0.06 * (high - low) or 0.5
    return (max(-1.0, low - air), min(101.0, high + air)) if measure in SHARES else (0.0, high + air)


def _tip(mark: Mark, measure: str) -> str:
    a, unit = mark.amount, " %" if measure in SHARES else " nats"
    shown = [f"{v:.1f}" if measure in SHARES else nats(v) for v in (a.value, a.low, a.high)]
    return f"{wrap(mark.arm)}: {shown[0]}{unit}<br>95 % {shown[1]} to {shown[2]}"


def _rows(close: Closeness, f: Finding, measure: str) -> Figure:
    """Arms from top to bottom: the mean with its interval, every seed a dot."""
    marks, scale = _marks(close, f, measure), _between(close, measure)
    common, data = {"type": "scatter", "mode": "markers"}, []
    if scale is not None:
        data.append({"type": "scatter", "mode": "lines", "x": [scale] * 2, "y": [-0.5, len(marks) - 0.5],
                     "hoverinfo": "text", "hovertext": [OTHER] * 2,
                     "line": {"color": "var(--ink)", "width": 1.2, "dash": "dot"}})  # fmt: skip
    for row, m in enumerate(marks):
        s = style(m.i)
        data += [
            {**common, "x": list(m.amount.values), "y": [row + 0.22] * len(m.amount.values), "hoverinfo": "skip",
             "marker": {"size": 6, "color": s["colour"], "opacity": 0.6}},
            {**common, "mode": "lines", "x": [m.amount.low, m.amount.high], "y": [row, row], "hoverinfo": "skip",
             "line": {"color": s["colour"], "width": 2}},
            {**common, "x": [m.amount.value], "y": [row], "hovertext": [_tip(m, measure)], "hoverinfo": "text",
             "marker": {"size": 10, "symbol": s["symbol"], "color": s["colour"]}},
        ]  # fmt: skip
    layout = {
        **BASE, "height": 110 + 46 * len(marks), "margin": {"l": 52, "r": 18, "t": 12, "b": 48}, "showlegend": False,
        "xaxis": {**AXIS, "range": list(_range(marks, scale, measure)), "title": named(UNITS[measure])},
        "yaxis": {**AXIS, "range": [len(marks) - 0.5, -0.5], "tickvals": list(range(len(marks))), "showgrid": False,
                  "ticks": "", "ticktext": [wrap(m.arm, 18) for m in marks], "ticklabelstandoff": 6},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _lines(close: Closeness, f: Finding, measure: str) -> Figure:
    """Arm by arm over x: means with their intervals, every seed a dot."""
    scale, marks, between = axis(f), _marks(close, f, measure), _between(close, measure)
    data: list[Figure] = []
    if between is not None:
        data.append({"type": "scatter", "mode": "lines", "name": OTHER, "x": [scale.low, scale.high],
                     "y": [between] * 2, "hoverinfo": "skip",
                     "line": {"color": "var(--ink)", "width": 1.2, "dash": "dot"}})  # fmt: skip
    for i, arm in enumerate(f.arms):
        mine, s = [m for m in marks if m.i == i], style(i)
        if mine:
            data += _line(arm, mine, s, measure)
    ends = [math.log10(v) for v in (scale.low, scale.high)] if scale.log else [scale.low, scale.high]
    layout = {
        **BASE, "height": 380, "margin": {"l": 52, "r": 18, "t": 12, "b": 48}, "legend": LEGEND,
        "xaxis": {**AXIS, "type": "log" if scale.log else "linear", "range": ends, "tickvals": scale.marks,
                  "ticktext": scale.labels, "tickangle": 0, "tickfont": {"size": 11},
                  "title": named(wrap(scale.title, 40))},
        "yaxis": {**AXIS, "range": list(_range(marks, between, measure)), "title": named(UNITS[measure])},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _line(arm: str, mine: Sequence[Mark], s: dict[str, Any], measure: str) -> list[Figure]:
    dots = [(m.x, v) for m in mine for v in m.amount.values]
    return [
        {"type": "scatter", "mode": "markers", "x": [x for x, _ in dots], "y": [v for _, v in dots],
         "hoverinfo": "skip", "showlegend": False, "marker": {"size": 5, "color": s["colour"], "opacity": 0.5}},
        {"type": "scatter", "mode": "lines+markers", "name": wrap(arm), "x": [m.x for m in mine],
         "y": [m.amount.value for m in mine], "hovertext": [_tip(m, measure) for m in mine], "hoverinfo": "text",
         "line": {"color": s["colour"], "dash": s["dash"], "width": 2},
         "marker": {"size": 7, "symbol": s["symbol"], "color": s["colour"]},
         "error_y": {"type": "data", "symmetric": False, "thickness": 1.2, "width": 0, "color": s["colour"],
                     "array": [m.amount.high - m.amount.value for m in mine],
                     "arrayminus": [m.amount.value - m.amount.low for m in mine]}},
    ]  # fmt: skip


def draw(close: Closeness, f: Finding, file: Path) -> bool:
    """Write both pictures side by side as one SVG; False where there is nothing."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Sheet

    if not _marks(close, f, "kl"):
        return False
    with mpl.rc_context(pictures.STYLE):
        height = 3.3 if f.curves else 1.1 + 0.4 * len(close.nears)
        sheet = Sheet(figsize=(pictures.WIDTH, height), layout="constrained")
        for ax, measure in zip(sheet.subplots(1, 2), TITLES, strict=True):
            (_draw_lines if f.curves else _draw_rows)(ax, close, f, measure)
        if f.curves:
            handles, labels = sheet.axes[0].get_legend_handles_labels()
            sheet.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), handlelength=3.2)
        sheet.savefig(file, format="svg", metadata={"Date": None})
    return True


def _draw_rows(ax: Any, close: Closeness, f: Finding, measure: str) -> None:
    marks, scale = _marks(close, f, measure), _between(close, measure)
    for row, m in enumerate(marks):
        colour = pictures.COLOURS[m.i % 6]
        ax.plot(m.amount.values, [row + 0.22] * len(m.amount.values), ".", color=colour, alpha=0.6)
        ax.plot([m.amount.low, m.amount.high], [row, row], color=colour)
        ax.plot([m.amount.value], [row], marker=pictures.MARKS[look(m.i)[1]], color=colour, markersize=6)
    if scale is not None:
        ax.axvline(scale, color="#000000", linestyle=(0, (1, 2)), linewidth=1.1)
    names = [m.arm for m in marks] if measure == next(iter(TITLES)) else [""] * len(marks)
    ax.set_yticks(range(len(marks)), names)
    ax.set(xlabel=UNITS[measure], ylim=(len(marks) - 0.5, -0.5), xlim=_range(marks, scale, measure))
    ax.grid(axis="y", visible=False)


def _draw_lines(ax: Any, close: Closeness, f: Finding, measure: str) -> None:
    scale, marks, between = axis(f), _marks(close, f, measure), _between(close, measure)
    for i, arm in enumerate(f.arms):
        mine = [m for m in marks if m.i == i]
        shape = pictures._style(i)
        ax.vlines([m.x for m in mine], [m.amount.low for m in mine], [m.amount.high for m in mine],
                  color=shape["color"], linewidth=1)  # fmt: skip
        ax.plot([m.x for m in mine], [m.amount.value for m in mine], label=arm, **shape)
    if between is not None:
        ax.axhline(between, color="#000000", linestyle=(0, (1, 2)), linewidth=1.1, label=OTHER)
    if scale.log:
        ax.set_xscale("log")
    ax.set_xlim(scale.low, scale.high)
    ax.set_xticks(scale.marks, scale.labels)
    ax.minorticks_off()
    ax.set(xlabel=scale.title, ylabel=UNITS[measure], ylim=_range(marks, between, measure))
