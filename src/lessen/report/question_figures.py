"""A question's figures as plotly data: how its arms converge, where their seeds end, or their curves over x."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lessen.analyze.findings import Finding
from lessen.analyze.points import Point
from lessen.report import class_figures, law_figures, scores, words
from lessen.report.axes import at, axis, look
from lessen.report.figures import AXIS, BASE, Figure, named, wrap
from lessen.report.phrases import position

COLOURS = tuple(f"var(--arm{letter})" for letter in "abcdef")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
LEGEND = {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom", "font": {"size": 12}}  # below, titles may wrap
MANY = 20  # epochs beyond which a line has no marks


def figures(finding: Finding, n: int, of_validation: int) -> list[tuple[str, Figure]]:
    """Titles and figures. n and of_validation: samples of the splits, for the scale of scores."""
    if finding.curves:
        found = [("Test score", _curves(finding, n))]
    elif finding.by == "class":
        look = [style(i) for i in range(len(finding.arms))]
        found = [("Recall by class", class_figures.figure(finding, look)),
                 ("Test score of each seed", _seeds(finding, n))]  # fmt: skip
    else:
        found = [("Training", _convergence(finding, of_validation)), ("Test score of each seed", _seeds(finding, n))]
    return [(title, figure) for title, figure in found if figure]


def style(i: int) -> dict[str, Any]:
    """Colour, dash and symbol of the i-th arm."""
    colour, shape = look(i)
    return {"colour": COLOURS[colour], "dash": DASHES[shape], "symbol": SYMBOLS[shape]}


def _convergence(f: Finding, n: int) -> Figure | None:
    """Mean validation score by epoch, from the lowest to the highest seed as a band."""
    arms = [(i, p) for i, p in enumerate(f.points) if any(b.epoch for b in p.course)]
    if not arms:
        return None
    data: list[Figure] = []
    for i, p in arms:
        x, s = [b.epoch for b in p.course], style(i)
        mean = [scores.wrong(b.mean, n) for b in p.course]
        data.append(
            _band(x, [scores.wrong(b.low, n) for b in p.course], [scores.wrong(b.high, n) for b in p.course], s)
        )
        tips = [f"{wrap(p.arm)}, epoch {b.epoch}: {words.percent(b.mean)}" for b in p.course]
        data.append(_line(p.arm, x, mean, s, tips, marks=len(x) <= MANY))
    epochs = [b.epoch for _, p in arms for b in p.course]
    data.insert(0, _dense([min(epochs), max(epochs)], _level(f, "validation", n)))
    everything = [v for trace in data for v in trace["y"]]
    layout = {
        **_layout("validation score, %", everything),
        "xaxis": {**AXIS, "title": named("epoch"), "showgrid": False},
    }
    return {"data": data, "layout": layout}


def _seeds(f: Finding, n: int) -> Figure | None:
    """Every seed a dot, the mean with its 95 % interval; arms from top to bottom."""
    shown = [(i, p) for i, p in enumerate(f.points) if p.test]
    if not shown:
        return None
    rows = list(range(len(shown)))
    data: list[Figure] = [_dense([-0.5, len(shown) - 0.5], _level(f, "test", n), across=False)]
    for row, (i, p) in zip(rows, shown, strict=True):
        data += _row(p, row, style(i), n)
    layout = _layout("", [v for trace in data for v in trace["x"]])
    layout["xaxis"] = {**layout["yaxis"], "title": named("test score, %"), "range": layout["yaxis"]["range"]}
    layout["yaxis"] = {**AXIS, "range": [len(rows) - 0.5, -0.5], "tickvals": rows, "showgrid": False, "ticks": "",
                       "ticktext": [wrap(p.arm, 18) for _, p in shown], "ticklabelstandoff": 6}  # fmt: skip
    return {"data": data, "layout": {**layout, "showlegend": False, "height": 110 + 46 * len(rows)}}


def _row(p: Point, row: int, s: dict[str, Any], n: int) -> list[Figure]:
    """Dots a little below the mean and its interval."""
    assert p.test is not None  # only points with a score are drawn
    dots = [scores.wrong(v, n) for v in p.test.values]
    ends = [scores.wrong(end, n) for end in p.interval or ()]
    colour, tip = s["colour"], f"{wrap(p.arm)}: {words.spread(p.test)}<br>95 % {words.interval(p.interval)}"
    common = {"type": "scatter", "mode": "markers"}
    return [
        {**common, "x": dots, "y": [row + 0.22] * len(dots), "hoverinfo": "skip",
         "marker": {"size": 6, "color": colour, "opacity": 0.6}},
        {**common, "mode": "lines", "x": ends, "y": [row] * len(ends), "line": {"color": colour, "width": 2},
         "hoverinfo": "skip"},
        {**common, "x": [scores.wrong(p.test.mean, n)], "y": [row], "hovertext": [tip], "hoverinfo": "text",
         "marker": {"size": 10, "symbol": s["symbol"], "color": colour}},
    ]  # fmt: skip


def _curves(f: Finding, n: int) -> Figure | None:
    """Test score over x, arm by arm: mean with its 95 % interval, and every seed."""
    scale, data = axis(f), []
    for i, arm in enumerate(f.arms):
        shown = [p for p in f.of(arm) if p.x is not None and p.test]
        if shown:
            data += (_law if f.law else _curve)(f, arm, shown, style(i), n)
    if not data:
        return None
    data.insert(0, _dense([scale.low, scale.high], _level(f, "test", n)))
    layout = _layout("test score, %", [v for trace in data for v in trace["y"]])
    ends = [scale.low, scale.high]
    if scale.log:
        ends = [math.log10(v) for v in ends]
    layout["xaxis"] = {**AXIS, "type": "log" if scale.log else "linear", "range": ends, "tickvals": scale.marks,
                       "ticktext": scale.labels, "tickangle": 0, "tickfont": {"size": 11},
                       "title": named(wrap(scale.title, 40))}  # fmt: skip
    if f.law:
        layout["shapes"] = law_figures.strip(f, scale, [style(i)["colour"] for i in range(len(f.arms))])
    return {"data": data, "layout": layout}


def _law(f: Finding, arm: str, shown: Sequence[Point], s: dict[str, Any], n: int) -> list[Figure]:
    """Sizes as points with their intervals, and the fitted curve; where there is no law a thin line joins the sizes."""
    band, dots, line = _curve(f, arm, shown, s, n)
    ends = list(zip(band["y"], reversed(band["y"]), strict=True))[: len(shown)]  # percents wrong: at least, at most
    line |= {"mode": "markers", "showlegend": False, "error_y": {
        "type": "data", "symmetric": False, "array": [max(pair) - y for pair, y in zip(ends, line["y"], strict=True)],
        "arrayminus": [y - min(pair) for pair, y in zip(ends, line["y"], strict=True)], "color": s["colour"],
        "thickness": 1.2, "width": 0,
    }}  # fmt: skip
    fit = next((fit for fit in f.law.fits if fit.arm == arm), None) if f.law else None
    x, y = law_figures.curve(fit, line["x"]) if fit else ([], [])
    drawn = {**line, "mode": "lines", "x": x or line["x"], "y": y or line["y"], "showlegend": True, "hoverinfo": "skip",
             "line": {**line["line"], "width": 2 if x else 1}}  # fmt: skip
    del drawn["error_y"], drawn["hovertext"]
    return [dots, drawn, line]


def _curve(f: Finding, arm: str, shown: Sequence[Point], s: dict[str, Any], n: int) -> list[Figure]:
    x = [at(f, p.x) for p in shown if p.x is not None]
    tips = [f"{wrap(arm)} at {position(f, p.x)}: {words.spread(p.test)}<br>{wrap(p.recipe)}" for p in shown]
    ends = [p.interval or (p.test.mean, p.test.mean) for p in shown if p.test]
    dots = [(at(f, a), scores.wrong(b, n)) for p in shown if p.test for a, b in zip(p.xs, p.test.values, strict=False)]
    means = [scores.wrong(p.test.mean, n) for p in shown if p.test]
    return [
        _band(x, [scores.wrong(a, n) for a, _ in ends], [scores.wrong(b, n) for _, b in ends], s),
        {"type": "scatter", "mode": "markers", "x": [a for a, _ in dots], "y": [b for _, b in dots],
         "showlegend": False, "hoverinfo": "skip", "legendgroup": arm,
         "marker": {"size": 5, "color": s["colour"], "opacity": 0.5}},
        _line(arm, x, means, s, tips, marks=True),
    ]  # fmt: skip


def _line(
    arm: str, x: Sequence[float], y: Sequence[float], s: dict[str, Any], tips: list[str], *, marks: bool
) -> Figure:
    return {
        "type": "scatter", "mode": "lines+markers" if marks else "lines", "name": wrap(arm), "legendgroup": arm,
        "x": list(x), "y": list(y), "line": {"color": s["colour"], "width": 2, "dash": s["dash"]},
        "marker": {"size": 7, "symbol": s["symbol"], "color": s["colour"]}, "hovertext": tips, "hoverinfo": "text",
    }  # fmt: skip


def _band(x: Sequence[float], low: Sequence[float], high: Sequence[float], s: dict[str, Any]) -> Figure:
    return {
        "type": "scatter", "mode": "lines", "x": [*x, *reversed(x)], "y": [*low, *reversed(high)], "fill": "toself",
        "fillcolor": s["colour"], "opacity": 0.14, "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip


def _level(f: Finding, split: str, n: int) -> float | None:
    spread = getattr(f.baseline, split) if f.baseline else None
    return scores.wrong(spread.mean, n) if spread else None


def _dense(span: list[float], level: float | None, across: bool = True) -> Figure:
    """The baseline's mean as a dotted line."""
    ends, levels = (span, [level] * 2) if level is not None else ([], [])
    return {
        "type": "scatter", "mode": "lines", "name": "baseline", "hoverinfo": "skip", "x": ends if across else levels,
        "y": levels if across else ends, "line": {"color": "var(--ink)", "width": 1.2, "dash": "dot"},
    }  # fmt: skip


def _layout(title: str, wrongs: Sequence[float]) -> Figure:
    low, high = scores.span(wrongs)
    marks, labels = scores.ticks(low, high)
    y = {**AXIS, "type": "log", "range": [math.log10(high), math.log10(low)], "tickvals": marks, "ticktext": labels}
    return {
        **BASE, "height": 380, "margin": {"l": 52, "r": 18, "t": 12, "b": 48}, "yaxis": {**y, "title": named(title)},
        "legend": LEGEND,
    }  # fmt: skip
