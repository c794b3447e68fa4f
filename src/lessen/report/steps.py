"""One recipe step by step: stored bytes and score after each step, and its training curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from lessen.core.record import Cost, Record
from lessen.report import words
from lessen.report.families import family_of, names
from lessen.report.figures import AXIS, BASE, Figure, named, wrap
from lessen.report.summary import Line, Stat

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


class Step(NamedTuple):
    """One row of a recipe's ledger: means over seeds."""

    name: str
    text: str
    family: str
    seconds: float
    cost: Cost  # of the first seed: counts hardly differ
    stored: float  # bytes of all weights as stored densely, counted
    score: Stat | None
    notes: tuple[str, ...]


def steps_of(line: Line) -> list[Step]:
    """The steps that all seeds went through, the baseline's training first."""
    found = []
    for column in zip(*(records for _, records in line.records), strict=False):
        first: Record = column[0]
        notes = dict.fromkeys(note for record in column for note in record.notes)
        found.append(Step(
            name=" + ".join(names(first.technique)), text=first.technique,
            family=family_of(first.technique) if found else "baseline",
            seconds=sum(r.seconds for r in column) / len(column), cost=first.after,
            stored=sum(r.after.weight_bits for r in column) / 8 / len(column),
            score=Stat.of(r.score for r in column if r.score is not None), notes=tuple(notes),
        ))  # fmt: skip
    return found


def waterfall(line: Line, steps: Sequence[Step]) -> Figure | None:
    """Steps from top to bottom: what each took off the stored weights at the left, validation score at the right.

    The last row is the measured runnable file; everything above it is counted.
    """
    if not steps:
        return None
    rows = [*range(len(steps))]
    labels = [wrap(step.name, 22) if i else "baseline" for i, step in enumerate(steps)]
    data = _bars(steps) + _scores(line, steps)
    most = max([*(step.stored for step in steps), line.runnable or 0]) / 1000
    if line.runnable is not None:
        data += _file(line, len(steps))
        rows, labels = [*rows, len(steps)], [*labels, "<b>the file</b>"]
    layout = {
        **BASE, "height": 96 + 44 * len(rows), "margin": {"l": 8, "r": 14, "t": 10, "b": 44}, "showlegend": False,
        "bargap": 0.4, "barmode": "overlay",
        "yaxis": {**AXIS, "range": [len(rows) - 0.45, -0.55], "tickvals": rows, "ticktext": labels, "ticks": "",
                  "ticklabelstandoff": 6, "showgrid": False, "showline": False},
        "xaxis": {**AXIS, "domain": [0, 0.62], "range": [0, 1.45 * most], "title": named("kB"), "nticks": 6},
        "xaxis2": {**AXIS, "domain": [0.7, 1], "title": named("validation, %"), "nticks": 4},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _bars(steps: Sequence[Step]) -> list[Figure]:
    """Floating bars from what there was to what is left, each with what is left as its label."""
    left = [step.stored / 1000 for step in steps]
    had = [0.0, *left[:-1]]
    labels = {"type": "scatter", "mode": "text", "hoverinfo": "skip", "textfont": {"size": 11.5},
              "x": [max(a, b) for a, b in zip(had, left, strict=True)], "y": [*range(len(left))],
              "text": [f" {words.size(step.stored)}" for step in steps], "textposition": "middle right"}  # fmt: skip
    bars = {
        "type": "bar", "orientation": "h", "y": [*range(len(left))],
        "base": [min(a, b) for a, b in zip(had, left, strict=True)],
        "x": [abs(b - a) for a, b in zip(had, left, strict=True)],
        "marker": {"color": [f"var(--{step.family})" for step in steps]},
        "hovertext": [f"{wrap(step.text)}<br>weights as stored: {words.size(step.stored)} (counted)" for step in steps],
        "hoverinfo": "text",
    }  # fmt: skip
    drops = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"width": 1, "color": "var(--soft)"},
             "x": [x for v in left[:-1] for x in (v, v, None)],
             "y": [y for i in range(len(left) - 1) for y in (i - 0.3, i + 1.3, None)]}  # fmt: skip
    return [drops, bars, labels]


def _scores(line: Line, steps: Sequence[Step]) -> list[Figure]:
    scored = [(i, step.score) for i, step in enumerate(steps) if step.score]
    dots = [(i, 100 * v) for i, score in scored for v in score.values]
    common = {"type": "scatter", "xaxis": "x2"}
    return [
        {**common, "mode": "markers", "hoverinfo": "skip", "x": [v for _, v in dots], "y": [i for i, _ in dots],
         "marker": {"size": 5, "color": f"var(--{line.family})", "opacity": 0.55}},
        {**common, "mode": "lines+markers", "x": [100 * score.mean for _, score in scored], "y": [i for i, _ in scored],
         "line": {"color": "var(--ink)", "width": 1.5}, "marker": {"size": 8, "color": "var(--ink)"},
         "hovertext": [f"after {wrap(steps[i].text)}<br>{words.spread(score)} (in training)" for i, score in scored],
         "hoverinfo": "text"},
    ]  # fmt: skip


def _file(line: Line, row: int) -> list[Figure]:
    size, kilobytes = words.size(line.runnable), (line.runnable or 0) / 1000
    tip = {"hovertext": [f"all files that the runtime needs: {size} (measured)"], "hoverinfo": "text"}
    found: list[Figure] = [
        {"type": "bar", "orientation": "h", "y": [row], "x": [kilobytes],
         "marker": {"color": "var(--card)", "line": {"color": "var(--ink)", "width": 1.5}}, **tip},
        {"type": "scatter", "mode": "text", "hoverinfo": "skip", "x": [kilobytes], "y": [row],
         "text": [f" <b>{size}</b>"], "textposition": "middle right", "textfont": {"size": 11.5}},
    ]  # fmt: skip
    if line.validation:
        found.append({
            "type": "scatter", "xaxis": "x2", "mode": "markers", "x": [100 * line.validation.mean], "y": [row],
            "marker": {"size": 9, "symbol": "circle-open", "color": "var(--ink)", "line": {"width": 2}},
            "hovertext": [f"the file in its runtime: {words.spread(line.validation)}"], "hoverinfo": "text",
        })  # fmt: skip
    return found


def curves(line: Line) -> Figure | None:
    """Validation score above and loss below by epoch, all steps after each other, one line a seed."""
    starts: dict[int, str] = {}
    data: list[Figure] = []
    for i, (seed, records) in enumerate(line.records):
        epochs: list[tuple[float, float | None, float | None]] = []  # epoch, score, loss
        offset = 0
        for record in records:
            if record.history:
                starts.setdefault(offset, " + ".join(names(record.technique)))
            epochs += [(offset + 1 + k, e.score, e.loss) for k, e in enumerate(record.history)]
            epochs.append((offset + len(record.history) + 0.5, None, None))  # no line from step to step
            offset += len(record.history)
        if offset:
            data += _seed(line.family, seed, DASHES[i % len(DASHES)], epochs)
    if not data:
        return None
    layout = {
        **BASE, "height": 330, "margin": {"l": 58, "r": 10, "t": 26, "b": 40},
        "xaxis": {**AXIS, "anchor": "y2", "showgrid": False, "title": named("epoch")},
        "yaxis": {**AXIS, "domain": [0.56, 1], "title": named("validation, %")},
        "yaxis2": {**AXIS, "domain": [0, 0.46], "title": named("training loss"), "rangemode": "tozero"},
        "legend": {"orientation": "h", "y": -0.28, "x": 0, "yanchor": "top"}, **_edges(starts),
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _seed(
    family: str, seed: int, dash: str, epochs: Sequence[tuple[float, float | None, float | None]]
) -> list[Figure]:
    def finite(value: float | None, scale: float) -> float | None:
        return scale * value if value is not None and math.isfinite(value) else None

    common = {
        "type": "scatter", "mode": "lines" if len(epochs) > 4 else "lines+markers", "x": [at for at, *_ in epochs],
        "line": {"color": f"var(--{family})", "width": 1.6, "dash": dash}, "name": f"seed {seed}",
        "legendgroup": str(seed), "hovertemplate": f"seed {seed}, epoch %{{x}}: %{{y:.4~g}}<extra></extra>",
    }  # fmt: skip
    return [
        {**common, "y": [finite(score, 100) for _, score, _ in epochs]},
        {**common, "y": [finite(loss, 1) for *_, loss in epochs], "yaxis": "y2", "showlegend": False},
    ]


def _edges(starts: dict[int, str]) -> dict[str, Any]:
    """A dotted line where a step begins, with its name above."""
    across = {"type": "line", "y0": 0, "y1": 1, "yref": "paper",
              "line": {"color": "var(--soft)", "width": 1, "dash": "dot"}}  # fmt: skip
    mark = {"y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": "left", "showarrow": False, "font": {"size": 11}}
    return {
        "shapes": [{**across, "x0": at + 0.5, "x1": at + 0.5} for at in starts if at],
        "annotations": [{**mark, "x": at + 0.5, "text": wrap(name)} for at, name in starts.items()],
    }
