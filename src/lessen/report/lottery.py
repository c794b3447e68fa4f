"""Every training behind a lottery ticket: the dense net, each round, and the same masks on other first weights."""

from __future__ import annotations

import statistics
from math import log10
from typing import Any

from lessen.report import scores, words
from lessen.report.figures import AXIS, BASE, Figure, named, wrap
from lessen.report.question_figures import DASHES, LEGEND, SYMBOLS
from lessen.report.summary import Line

TICKET, CONTROL = "var(--prune)", "var(--quantize)"


def trainings(line: Line) -> Figure | None:
    """Validation score by epoch, mean over seeds and repeats; None where no step of the recipe tells of any."""
    arms: dict[str, dict[int, list[float]]] = {}
    for _, records in line.records:
        for curve in (c for r in records for c in _curves(r.details.get("curves"))):
            by_epoch = arms.setdefault(curve["arm"], {})
            for epoch, score in enumerate(curve["scores"], curve["first_epoch"]):
                by_epoch.setdefault(epoch, []).append(score)
    if not arms:
        return None
    n = next((m.validation.n for m in line.measured if m.validation), 1000)
    rounds = [name for name in arms if name.startswith("round")]
    data = [_trace(name, seen, rounds, n) for name, seen in arms.items()]
    low, high = scores.span(v for trace in data for v in trace["y"])
    marks, labels = scores.ticks(low, high)
    layout = {
        **BASE, "height": 330, "margin": {"l": 52, "r": 10, "t": 10, "b": 44},
        "xaxis": {**AXIS, "showgrid": False, "title": named("epoch of each training")},
        "yaxis": {**AXIS, "type": "log", "range": [log10(high), log10(low)], "tickvals": marks, "ticktext": labels,
                  "title": named("validation, %")},
        "legend": LEGEND,
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _curves(value: Any) -> list[dict[str, Any]]:
    """Those of the form that LotteryTicket records, without a score that is missing."""
    rows = value if isinstance(value, list) else []
    keys = {"arm", "first_epoch", "scores"}
    whole = [row for row in rows if isinstance(row, dict) and keys <= row.keys()]
    return [row for row in whole if all(isinstance(score, float | int) for score in row["scores"])]


def _trace(name: str, seen: dict[int, list[float]], rounds: list[str], n: int) -> Figure:
    """Rounds share the ticket's colour, the earlier the fainter; the dense net is ink, the control another colour."""
    i = rounds.index(name) + 1 if name in rounds else 0
    colour = TICKET if i else "var(--ink)" if name == "dense" else CONTROL
    means = {epoch: statistics.fmean(values) for epoch, values in sorted(seen.items())}
    return {
        "type": "scatter", "mode": "lines+markers", "name": wrap(str(name)), "x": list(means),
        "y": [scores.wrong(v, n) for v in means.values()], "opacity": 0.45 + 0.55 * i / len(rounds) if i else 1.0,
        "line": {"color": colour, "width": 1.8, "dash": DASHES[i % 6] if i else "dot" if name == "dense" else "solid"},
        "marker": {"size": 6, "symbol": SYMBOLS[i % 6], "color": colour}, "hoverinfo": "text",
        "hovertext": [f"{wrap(str(name))}, epoch {e}: {words.percent(v)}" for e, v in means.items()],
    }  # fmt: skip
