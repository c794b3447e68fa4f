"""Score against bytes and against latency: every seed a dot, every recipe a numbered mark, the front a staircase.

Figures are plain plotly data (tests hand them to plotly.graph_objects, which checks every field). Colours are CSS
variables, which report.js turns into the page's colours, light or dark. Texts that plotly draws know a few tags, so
whatever comes from users is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby
from typing import Any

from lessen.analyze.pareto import front
from lessen.report import words
from lessen.report.families import SYMBOLS, WORDS
from lessen.report.summary import Line, Stat, Summary

Figure = dict[str, Any]  # {"data": [...], "layout": {...}}
Shown = list[tuple[Line, float, Stat]]  # a recipe, its place on the x axis, its score

DEEPEST = 0.15  # recipes that lose more than this stay below the drawn range, so that the others can be told apart
PLACES = {"top center": (0, 0.05), "bottom center": (0, -0.05), "middle right": (0.035, 0), "middle left": (-0.035, 0)}
AXIS: dict[str, Any] = {
    "gridcolor": "var(--rule)", "linecolor": "var(--soft)", "tickcolor": "var(--soft)", "ticks": "outside",
    "ticklen": 4, "showline": True, "zeroline": False, "automargin": True,
}  # fmt: skip
BASE: dict[str, Any] = {
    "template": {}, "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "dragmode": False,
    "font": {"family": "system-ui, sans-serif", "size": 12, "color": "var(--ink)"}, "hovermode": "closest",
    "hoverlabel": {"bgcolor": "var(--card)", "bordercolor": "var(--soft)", "align": "left",
                   "font": {"color": "var(--ink)"}},
}  # fmt: skip


def scatter(
    s: Summary, x: Callable[[Line], float | None], seeds: Callable[[Line], Sequence[float]], title: str
) -> Figure | None:
    """The figure of score against `x`, a recipe's mean; `seeds` gives one value a seed. None when there is nothing.

    `below` names the recipes whose score lies below the drawn range.
    """
    shown = [(line, at, score) for line in s.lines if (at := x(line)) and (score := s.score(line))]
    if not shown:
        return None
    spots = _places(shown)
    order = list(WORDS)
    shown.sort(key=lambda item: (order.index(item[0].family), item[0].number))
    data = [_front(shown)]
    for family, group in groupby(shown, key=lambda item: item[0].family):
        members = list(group)
        data += [_dots(family, members, seeds), _marks(family, members, spots)]
    low, high = _range(shown, s)
    layout = {
        **BASE, "height": 430, "margin": {"l": 52, "r": 12, "t": 30, "b": 48}, "shapes": _reference(s),
        "xaxis": {**AXIS, "type": "log", "title": named(title), **_ticks([at for _, at, _ in shown])},
        "yaxis": {**AXIS, "title": named(f"{s.scored_by} score, %"), "range": [low, high]},
        "legend": {"orientation": "h", "y": -0.2, "x": 0, "yanchor": "top", "font": {"size": 12}},
    }  # fmt: skip
    below = [line.number for line, _, score in shown if 100 * score.mean < low]
    return {"data": data, "layout": layout, "below": below}


def named(title: str) -> dict[str, Any]:
    return {"text": title, "font": {"size": 13}, "standoff": 8}


def wrap(text: str, width: int = 44) -> str:
    """Escaped text in lines of at most `width` characters, broken at spaces where there are any."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    pieces = [line[i : i + width] for line in lines for i in range(0, max(len(line), 1), width)]
    return "<br>".join(escape(piece) for piece in pieces)


def _front(shown: Shown) -> Figure:
    edge = [shown[i] for i in front([(at, score.mean) for _, at, score in shown])]
    return {
        "type": "scatter", "mode": "lines", "name": "front", "hoverinfo": "skip", "x": [at for _, at, _ in edge],
        "y": [100 * score.mean for *_, score in edge], "line": {"shape": "hv", "width": 1.5, "color": "var(--front)"},
    }  # fmt: skip


def _dots(family: str, members: Shown, seeds: Callable[[Line], Sequence[float]]) -> Figure:
    pairs = [
        (a, 100 * b)
        for line, _, score in members
        if score.n > 1
        for a, b in zip(seeds(line), score.values, strict=False)
    ]
    return {
        "type": "scatter", "mode": "markers", "legendgroup": family, "showlegend": False, "hoverinfo": "skip",
        "x": [a for a, _ in pairs], "y": [b for _, b in pairs],
        "marker": {"size": 5, "color": f"var(--{family})", "opacity": 0.55},
    }  # fmt: skip


def _marks(family: str, members: Shown, spots: dict[int, str]) -> Figure:
    colour = f"var(--{family})"
    return {
        "type": "scatter", "mode": "markers+text", "name": WORDS[family], "legendgroup": family, "cliponaxis": False,
        "x": [at for _, at, _ in members], "y": [100 * score.mean for *_, score in members],
        "text": [str(line.number) for line, *_ in members], "textfont": {"size": 11, "color": colour},
        "textposition": [spots[line.number] for line, *_ in members],
        "marker": {"size": 11, "symbol": SYMBOLS[family], "color": colour,
                   "line": {"width": 1.5, "color": "var(--paper)"}},
        "hovertext": [_tip(line) for line, *_ in members], "hoverinfo": "text",
    }  # fmt: skip


def _tip(line: Line) -> str:
    rows = [
        f"<b>{line.number}  {wrap(line.recipe or 'baseline')}</b>",
        f"validation {words.spread(line.validation)}" if line.validation else "",
        f"runnable {words.size(line.runnable)}",
        *(
            f"batch {x.batch}: {words.milliseconds(x.ms.mean)}" + (f", {words.faster(x)}" if line.number else "")
            for x in line.speeds
        ),
        f"mean over {words.plural(len(line.done), 'seed')}",
    ]
    return "<br>".join(filter(None, rows))


def _reference(s: Summary) -> list[dict[str, Any]]:
    """The baseline's score as a line, and the allowed drop as a band below it."""
    if s.baseline is None or (score := s.score(s.baseline)) is None:
        return []
    top = 100 * score.mean
    across = {"xref": "paper", "x0": 0, "x1": 1, "y1": top, "layer": "below"}
    band = {**across, "type": "rect", "y0": top - 100 * s.max_drop, "fillcolor": "var(--band)", "line": {"width": 0}}
    line = {"width": 1, "dash": "dot", "color": "var(--baseline)"}
    return [band, {**across, "type": "line", "y0": top, "line": line}]


def _range(shown: Shown, s: Summary) -> tuple[float, float]:
    """The drawn range of scores, in percent."""
    base = s.score(s.baseline) if s.baseline else None
    floor = (base.mean if base else max(score.mean for *_, score in shown)) - DEEPEST
    values = [v for *_, score in shown for v in score.values]
    inside = [v for v in values if v >= floor] or values
    inside += [base.mean, base.mean - s.max_drop] if base else []
    low, high = min(inside), max(inside)
    air = max(0.12 * (high - low), 0.002)
    return 100 * (low - air), 100 * (high + 1.4 * air)


def _ticks(values: Sequence[float]) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 times powers of ten, fewer over many decades, more within one; and a range with some air."""
    low, high = math.log10(min(values)), math.log10(max(values))
    air = max(0.07 * (high - low), 0.05)
    low, high = low - air, high + air
    heads = (1, 1.5, 2, 3, 4, 5, 6, 8) if high - low < 0.7 else (1, 2, 5) if high - low < 2.2 else (1,)
    at = [head * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for head in heads]
    at = [v for v in at if low <= math.log10(v) <= high]
    return {"range": [low, high], "tickvals": at, "ticktext": [f"{v:,.10g}" for v in at]}


def _places(shown: Shown) -> dict[int, str]:
    """Where each mark's number goes to stay clear of all others: the first roomy place, or the roomiest."""
    marks = [(math.log10(at), score.mean) for _, at, score in shown]
    (left, right), (low, high) = ((min(v), max(v)) for v in zip(*marks, strict=True))
    taken = [((x - left) / (right - left or 1), (y - low) / (high - low or 1)) for x, y in marks]
    found = {}
    for i, (line, *_) in enumerate(shown):
        (x, y), others = taken[i], taken[:i] + taken[i + 1 :]
        rooms = {
            name: min((math.hypot(x + dx - a, y + dy - b) for a, b in others), default=1.0)
            for name, (dx, dy) in PLACES.items()
        }
        best = next((name for name, room in rooms.items() if room > 0.085), max(rooms, key=lambda name: rooms[name]))
        taken.append((x + PLACES[best][0], y + PLACES[best][1]))
        found[line.number] = best
    return found
