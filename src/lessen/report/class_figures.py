"""What each class loses, as plotly data: an arm's dot and 95 % interval beside the others', class by class."""

from __future__ import annotations

from lessen.analyze.classes import Recall
from lessen.analyze.findings import Finding
from lessen.report import words
from lessen.report.figures import AXIS, BASE, Figure, named, wrap

WIDE = 0.7  # of a class's place, over which its arms stand side by side


def shown(f: Finding) -> list[tuple[int, str, list[tuple[float, Recall]]]]:
    """Arms but the first: number, name, and each class's place on the axis with its change."""
    found = f.classes
    arms = [(i, arm) for i, arm in enumerate(f.arms) if i and found and found.of(arm)]
    if found is None:
        return []
    step = WIDE / max(len(arms), 1)
    return [
        (i, arm, [(k + (row - (len(arms) - 1) / 2) * step, r) for k, r in enumerate(found.of(arm))])
        for row, (i, arm) in enumerate(arms)
    ]


def labels(f: Finding) -> list[str]:
    """Of the classes, in the order of the axis."""
    return [f.classes.name(k) for k in f.classes.images] if f.classes else []


def figure(f: Finding, look: list[dict[str, str]]) -> Figure | None:
    """None where there are no classes. `look`: colour and symbol, by arm."""
    arms = shown(f)
    if not arms:
        return None
    data: list[Figure] = [_arm(arm, places, look[i]) for i, arm, places in arms]
    ticks = labels(f)
    layout = {
        **BASE, "height": 360, "margin": {"l": 52, "r": 18, "t": 12, "b": 48},
        "legend": {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": {**AXIS, "title": named("class"), "tickvals": list(range(len(ticks))), "showgrid": False,
                  "ticktext": [wrap(t, 12) for t in ticks], "range": [-0.5, len(ticks) - 0.5]},
        "yaxis": {**AXIS, "title": named(f"recall, points to {f.arms[0]}"), "zeroline": True,
                  "zerolinecolor": "var(--ink)", "zerolinewidth": 1},
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _arm(arm: str, places: list[tuple[float, Recall]], look: dict[str, str]) -> Figure:
    tips = [
        f"{wrap(arm)}: {words.percent(r.recall)}, {words.signed(r.value)} points<br>95 % {words.signed(r.low)} to"
        f" {words.signed(r.high)}{', clear' if r.clear else ''}"
        for _, r in places
    ]
    return {
        "type": "scatter", "mode": "markers", "name": wrap(arm), "x": [x for x, _ in places],
        "y": [100 * r.value for _, r in places], "hovertext": tips, "hoverinfo": "text",
        "marker": {"size": 8, "symbol": look["symbol"], "color": look["colour"]},
        "error_y": {"type": "data", "symmetric": False, "array": [100 * (r.high - r.value) for _, r in places],
                    "arrayminus": [100 * (r.value - r.low) for _, r in places], "color": look["colour"],
                    "thickness": 1.4, "width": 0},
    }  # fmt: skip
