"""A question's pictures as SVG for documents: one style, black and colours that the colour-blind tell apart.

Colours are those of Okabe & Ito (2008); arms differ in mark and dash as well. The numbers are those of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lessen.analyze.findings import Finding
from lessen.analyze.points import Point
from lessen.analyze.scaling import Fit
from lessen.report import class_figures, law_figures, scores
from lessen.report.axes import at, axis, look

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
DASHES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))
MARKS = "osD^Pv"
STYLE: Any = {
    "font.family": "sans-serif", "font.size": 9, "axes.titlesize": 9, "axes.titlelocation": "left", "axes.grid": True,
    "grid.color": "#e6e5e0", "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "svg.hashsalt": "lessen", "lines.linewidth": 1.6,
}  # fmt: skip
WIDTH = 7.4  # inches: readable at the width of a page of text


def draw(f: Finding, n: int, of_validation: int, file: Path) -> bool:
    """Write the picture of a question; False where there is nothing. n, of_validation: samples of the splits."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawn = [p for p in f.points if p.test and (p.x is not None or not f.curves)]
    if not drawn:
        return False
    with mpl.rc_context(STYLE):
        trained = any(b.epoch for p in f.points for b in p.course)
        by_class = bool(f.classes)
        if f.curves:
            figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
            _curves(figure.subplots(), f, n)
        elif by_class:
            figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
            _classes(figure.subplots(), f)
        elif trained:
            figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
            left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
            _convergence(left, f, of_validation)
            _seeds(right, f, n)
        else:
            figure = Figure(figsize=(WIDTH, 1.0 + 0.4 * len(drawn)), layout="constrained")
            _seeds(figure.subplots(), f, n)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if handles and (f.curves or by_class or trained):
            figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), handlelength=3.2)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return True


def _style(i: int) -> dict[str, Any]:
    colour, shape = look(i)
    return {"color": COLOURS[colour], "linestyle": DASHES[shape], "marker": MARKS[shape], "markersize": 4.5}


def _convergence(ax: Any, f: Finding, n: int) -> None:
    wrongs: list[float] = []
    for i, p in enumerate(f.points):
        if not any(b.epoch for b in p.course):
            continue
        x = [b.epoch for b in p.course]
        low, mean, high = ([scores.wrong(getattr(b, k), n) for b in p.course] for k in ("low", "mean", "high"))
        ax.fill_between(x, low, high, color=COLOURS[i % 6], alpha=0.13, linewidth=0)
        ax.plot(x, mean, label=p.arm, **_style(i))
        wrongs += low + high
    _dense(ax, f, "validation", n, wrongs)
    ax.set(xlabel="epoch", ylabel="validation score, %")
    _scale(ax.yaxis, ax.set_yscale, ax.set_ylim, wrongs)


def _seeds(ax: Any, f: Finding, n: int) -> None:
    shown = [(i, p, p.test) for i, p in enumerate(f.points) if p.test]
    wrongs: list[float] = []
    for row, (i, p, test) in enumerate(shown):
        values, ends = [scores.wrong(v, n) for v in test.values], [scores.wrong(e, n) for e in p.interval or ()]
        ax.plot(values, [row + 0.22] * len(values), ".", color=COLOURS[i % 6], alpha=0.6)
        ax.plot(ends, [row] * len(ends), color=COLOURS[i % 6])
        ax.plot([scores.wrong(test.mean, n)], [row], marker=MARKS[look(i)[1]], color=COLOURS[i % 6], markersize=6)
        wrongs += values + ends
    _dense(ax, f, "test", n, wrongs, across=False)
    ax.set_yticks(range(len(shown)), [p.arm for _, p, _ in shown])
    ax.set(xlabel="test score, %", ylim=(len(shown) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    _scale(ax.xaxis, ax.set_xscale, ax.set_xlim, wrongs)


def _curves(ax: Any, f: Finding, n: int) -> None:
    scale, wrongs = axis(f), []
    for i, arm in enumerate(f.arms):
        shown = [p for p in f.of(arm) if p.x is not None and p.test]
        if shown:
            wrongs += _curve(ax, f, arm, shown, i, n)
    _dense(ax, f, "test", n, wrongs)
    if scale.log:
        ax.set_xscale("log")
    ax.set_xlim(scale.low, scale.high)
    ax.set_xticks(scale.marks, scale.labels)
    ax.minorticks_off()
    ax.set(xlabel=scale.title, ylabel="test score, %")
    for low, high, held in law_figures.spans(f.law.front, scale) if f.law else ():
        colour, alpha = COLOURS[f.arms.index(held.arm) % 6], 1 if held.sure else law_figures.FAINT
        ax.axvspan(low, high, ymax=law_figures.STRIP, color=colour, alpha=alpha, linewidth=0)
    _scale(ax.yaxis, ax.set_yscale, ax.set_ylim, wrongs)


def _curve(ax: Any, f: Finding, arm: str, shown: Sequence[Point], i: int, n: int) -> list[float]:
    """Draws one arm; returns what it took of the scale."""
    x, mean = [at(f, p.x or 0) for p in shown], [scores.wrong(p.test.mean, n) for p in shown if p.test]
    ends = [[scores.wrong(e, n) for e in p.interval or (p.test.mean, p.test.mean)] for p in shown if p.test]
    dots = [(at(f, a), scores.wrong(b, n)) for p in shown if p.test for a, b in zip(p.xs, p.test.values, strict=False)]
    fit = next((fit for fit in f.law.fits if fit.arm == arm), None) if f.law else None
    if fit is None:
        ax.fill_between(x, [a for a, _ in ends], [b for _, b in ends], color=COLOURS[i % 6], alpha=0.13, linewidth=0)
    ax.plot([a for a, _ in dots], [b for _, b in dots], ".", color=COLOURS[i % 6], alpha=0.5, markersize=4)
    if fit is None:
        ax.plot(x, mean, label=arm, **_style(i))
    else:
        _law(ax, fit, (x, mean, ends), i)
    return [b for _, b in dots] + [e for pair in ends for e in pair]


def _law(ax: Any, fit: Fit, seen: tuple[list[float], list[float], list[list[float]]], i: int) -> None:
    """Sizes as points with intervals, and the fitted curve; where there is no law a thin line joins the sizes."""
    x, mean, ends = seen
    style = _style(i)
    ax.vlines(x, [min(e) for e in ends], [max(e) for e in ends], color=style["color"], linewidth=1)
    ax.plot(x, mean, **{**style, "linestyle": ""})
    drawn = law_figures.curve(fit, x)
    thin = {} if drawn[0] else {"linewidth": 0.8}
    ax.plot(*(drawn if drawn[0] else (x, mean)), label=fit.arm, **{**style, "marker": ""}, **thin)


def _classes(ax: Any, f: Finding) -> None:
    """Each class's change of recall, the arms side by side, with 95 % intervals."""
    ticks = class_figures.labels(f)
    for i, arm, places in class_figures.shown(f):
        x, changes = [place for place, _ in places], [r for _, r in places]
        ax.vlines(x, [100 * r.low for r in changes], [100 * r.high for r in changes], color=COLOURS[i % 6], linewidth=1)
        ax.plot(x, [100 * r.value for r in changes], label=arm, **{**_style(i), "linestyle": ""})
    ax.axhline(0, color="#000000", linewidth=0.8)
    ax.set_xticks(range(len(ticks)), ticks)
    ax.set(xlabel="class", ylabel=f"recall, points to {f.arms[0]}", xlim=(-0.5, len(ticks) - 0.5))
    ax.grid(axis="x", visible=False)


def _dense(ax: Any, f: Finding, split: str, n: int, wrongs: list[float], across: bool = True) -> None:
    """The baseline's mean as a dotted line; joins what the scale has to show."""
    spread = getattr(f.baseline, split) if f.baseline else None
    if spread is not None:
        level = scores.wrong(spread.mean, n)
        (ax.axhline if across else ax.axvline)(
            level, color="#000000", linestyle=(0, (1, 2)), linewidth=1.1, label="baseline"
        )
        wrongs.append(level)


def _scale(own: Any, set_scale: Any, set_limits: Any, wrongs: Sequence[float]) -> None:
    """The scale of scores: logarithmic in what is wrong, the best on top or at the right."""
    from matplotlib.ticker import NullFormatter, NullLocator

    low, high = scores.span(wrongs)
    marks, labels = scores.ticks(low, high)
    set_scale("log")
    set_limits(high, low)
    own.set_ticks(marks, labels)
    own.set_minor_locator(NullLocator())
    own.set_minor_formatter(NullFormatter())
