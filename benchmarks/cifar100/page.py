"""What headline.json says, in words and as a picture: README's section, the table of all recipes, the front."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from lessen.analyze.pareto import front
from lessen.analyze.points import stacked
from lessen.analyze.predictions import right_answers
from lessen.analyze.statistics import Difference, paired_difference, seed_difference
from lessen.core.errors import BadStudy
from lessen.report import words
from lessen.report.families import WORDS
from lessen.report.pictures import COLOURS, MARKS, STYLE, WIDTH
from lessen.report.summary import Line, Stat, Summary

BEGIN, END = "<!-- headline -->", "<!-- /headline -->"
SHAPES = {"quantize": 0, "prune": 1, "distill": 2, "combined": 3}  # of the report's families, in colours and marks


def difference(run: Path, base: Line, other: Line) -> dict[str, Any]:
    """Test score of a recipe less the baseline's, over the seeds and images that both have; shares."""
    answers, seeds = right_answers(run), {t.seed for t in other.done}
    pair = other.done, [t for t in base.done if t.seed in seeds]
    a, b = (stacked(trials, answers) for trials in pair)
    if a is not None and b is not None:
        return told(paired_difference(a, b))
    return told(seed_difference(*([t.measurement.test.value for t in trials if t.measurement] for trials in pair)))


def told(d: Difference) -> dict[str, Any]:
    clear = d.clear and d.seeds > 1
    return {"value": d.value, "low": d.low, "high": d.high, "clear": clear, "seeds": d.seeds, "images": d.images}


def rows(run: Path, s: Summary) -> list[dict[str, Any]]:
    """Every finished recipe against the baseline, the largest file first."""
    base = s.baseline
    assert base and base.runnable
    found = [
        {
            "recipe": x.recipe, "family": x.family, **numbers(x), "times_smaller": base.runnable / x.runnable,
            "difference": difference(run, base, x),
        }
        for x in s.lines if x.number and x.test and x.runnable and x.transport
    ]  # fmt: skip
    return sorted(found, key=lambda row: (-row["runnable_bytes"], row["recipe"]))


def numbers(x: Line) -> dict[str, Any]:
    """A measured recipe over its seeds; scores are shares, bytes means."""
    assert x.test and x.runnable and x.transport
    return {
        "n": x.test.n, "test_top1_mean": x.test.mean, "test_top1_sd": x.test.sd, "test_top1": list(x.test.values),
        "runnable_bytes": round(x.runnable), "transport_bytes": round(x.transport),
        "latency_to_baseline": {str(s.batch): s.ratio for s in x.speeds},
    }  # fmt: skip


def sentence(found: dict[str, Any]) -> str:
    """One line for people."""
    b, c, d = found["baseline"], found["compressed"], found["difference"]
    return plain(
        f"{score(b)} in {words.size(b['runnable_bytes'])}; {score(c)} in {words.size(c['runnable_bytes'])}, "
        f"{found['times_smaller']:.1f} times smaller: {points(d)}; n = {c['n']}"
    )


def section(found: dict[str, Any], at: str = "results/cifar100") -> str:
    """README's: both figures, what they were taken on, and the picture; at: the results' folder as README names it."""
    b, c, m, t = found["baseline"], found["compressed"], found["machine"], found["trained_on"]
    batches = list(b["latency_ms"])
    images = "all training images" if found["final"] else "validation held out"
    threads = words.plural(m["threads"], "thread")
    lines = [
        f"CIFAR-100, {images}, last epoch; {found['test_images']:,} test images, mean ± sd, n = "
        f"{words.plural(c['n'], 'seed')}.",
        "",
        f"| | model | test top-1 | file | under zstd -19 |{heads(batches)}",
        f"|---|---|---:|---:|---:|{'---:|' * len(batches)}",
        cells("baseline", b, batches),
        cells("compressed", c, batches),
        "",
        f"{found['times_smaller']:.1f} times smaller ({found['times_smaller_transport']:.1f} under zstd): "
        f"{points(found['difference'])}. Recipe, {found['chosen_by']}: `{c['recipe']}`.",
        "",
        f"![Test score against times smaller, every recipe]({at}/front.svg)",
        "",
        f"[Every recipe]({at}/front.md), [all numbers]({at}/headline.json), [commands](benchmarks/cifar100/README.md). "
        f"Trained on {device(t['device'])} with torch {t['torch']}, measured on {m['cpu']}, {threads}, {m['runtime']}; "
        f"commit {found['commit'][:12]}. `lessen measure {at}/compressed` measures the file again.",
    ]
    return plain("\n".join(lines))


def device(name: str) -> str:
    """A GPU by its name; of a CPU, torch tells its vector instructions alone."""
    return f"a CPU with {name}" if name.startswith("AVX") else name


def heads(batches: list[str]) -> str:
    return "".join(f" latency, batch {batch} |" for batch in batches)


def cells(name: str, x: dict[str, Any], batches: list[str]) -> str:
    own = [f"{x['latency_ms'][batch]:.2f} ms" for batch in batches]
    shown = own if name == "baseline" else [f"{share(x['latency_to_baseline'].get(b))} of it" for b in batches]
    sizes = [words.size(x["runnable_bytes"]), words.size(x["transport_bytes"])]
    model = f"`{x['model']}`"
    return f"| {' | '.join([name, model, score(x), *sizes, *shown])} |"


def share(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def score(x: dict[str, Any]) -> str:
    return words.spread(Stat(x["test_top1_mean"], x["test_top1_sd"], ()))


def points(d: dict[str, Any]) -> str:
    """-0.3 points (95 % -0.6 to 0.1, not clear)."""
    value, low, high = (words.signed(d[name]) for name in ("value", "low", "high"))
    return f"{value} points (95 % {low} to {high}, {'clear' if d['clear'] else 'not clear'})"


def plain(text: str) -> str:
    """With ordinary spaces, as Markdown and diffs have them."""
    return text.replace(words.THIN, " ").replace(words.HARD, " ")


def into(readme: Path, text: str) -> None:
    """Put the text between the markers. Errors: BadStudy."""
    try:
        whole = readme.read_text(encoding="utf-8")
    except OSError as e:
        raise BadStudy(f"cannot read {readme} ({e.strerror}); name the page for the figures by --readme") from None
    if whole.count(BEGIN) != 1 or whole.count(END) != 1 or whole.index(BEGIN) > whole.index(END):
        raise BadStudy(f"{readme} lacks its markers {BEGIN} and {END}; put them where the figures go")
    before, rest = whole.split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def write(found: dict[str, Any], out: Path) -> None:
    """front.md and front.svg."""
    base, batches = found["baseline"], list(found["baseline"]["latency_ms"])
    lines = [
        "# CIFAR-100: how small, and what it costs",
        "",
        f"Test top-1 of {found['test_images']:,} images, mean ± sd over seeds; differences to the baseline "
        f"({score(base)}, {words.size(base['runnable_bytes'])}) with 95 % intervals, seeds and images resampled; "
        "latency as a share of the baseline's.",
        "",
        "![Test score against times smaller](front.svg)",
        "",
        f"| | recipe | n | times smaller | file | under zstd -19 | test top-1 | to the baseline |{heads(batches)}",
        f"|---:|---|---:|---:|---:|---:|---:|---:|{'---:|' * len(batches)}",
    ]
    for i, row in enumerate(found["front"], 1):
        sizes = [words.size(row["runnable_bytes"]), words.size(row["transport_bytes"])]
        about = [str(i), f"`{row['recipe']}`", str(row["n"]), f"{row['times_smaller']:.1f}", *sizes, score(row)]
        times = [share(row["latency_to_baseline"].get(batch)) for batch in batches]
        lines.append(f"| {' | '.join([*about, points(row['difference']), *times])} |")
    (out / "front.md").write_text(plain("\n".join(lines)) + "\n", encoding="utf-8")
    draw(found, out / "front.svg")


def draw(found: dict[str, Any], file: Path) -> None:
    """Every recipe's mean and seeds against times smaller, numbered as in the table, and the front as a staircase."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown, top = found["front"], 100 * found["baseline"]["test_top1_mean"]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
        ax: Any = figure.subplots()
        edge = [place(shown[i]) for i in front([(-r["times_smaller"], r["test_top1_mean"]) for r in shown])]
        ax.step(*zip(*edge, strict=True), where="post", color="#999999", linewidth=1.2, label="front")
        ax.axhline(top, color="#000000", linestyle=(0, (1, 2)), linewidth=1.1, label="baseline")
        for family in dict.fromkeys(r["family"] for r in shown):
            recipes(ax, family, [r for r in shown if r["family"] == family])
        for numbers, at in labels([place(r) for r in shown]):
            ax.annotate(numbers, at, xytext=(5, 5), textcoords="offset points", fontsize=8)
        marks = ticks([r["times_smaller"] for r in shown])
        ax.set_xscale("log")
        ax.set_xticks(marks, [f"{m:g}" for m in marks])
        ax.minorticks_off()
        ax.set(xlabel="times smaller than the baseline's file", ylabel="test top-1, %")
        figure.legend(loc="outside lower center", ncols=5)
        figure.savefig(file, format="svg", metadata={"Date": None})


def place(row: dict[str, Any]) -> tuple[float, float]:
    return row["times_smaller"], 100 * row["test_top1_mean"]


def labels(places: list[tuple[float, float]]) -> list[tuple[str, tuple[float, float]]]:
    """Numbers from 1, and where they stand: those of neighbours within 4 % of the picture are told together."""
    seen = [(math.log(x), y) for x, y in places]
    spans = [max(values) - min(values) or 1.0 for values in zip(*seen, strict=True)]
    groups: list[list[int]] = []
    for i, at in enumerate(seen):
        last = seen[groups[-1][-1]] if groups else None
        near = last and all(abs(a - b) <= 0.04 * s for a, b, s in zip(at, last, spans, strict=True))
        groups = [*groups[:-1], [*groups[-1], i]] if near else [*groups, [i]]
    return [
        (", ".join(str(i + 1) for i in group), max((places[i] for i in group), key=lambda at: at[1]))
        for group in groups
    ]


def recipes(ax: Any, family: str, rows: list[dict[str, Any]]) -> None:
    """Means as marks, seeds as dots."""
    look = SHAPES.get(family, 4)
    for row in rows:
        x, y = [row["times_smaller"]] * row["n"], [100 * v for v in row["test_top1"]]
        ax.plot(x, y, ".", color=COLOURS[look], alpha=0.4)
    x, y = zip(*map(place, rows), strict=True)
    ax.plot(x, y, linestyle="", marker=MARKS[look], color=COLOURS[look], label=WORDS[family])


def ticks(values: list[float]) -> list[float]:
    """1, 2, 5, 10 ... around the values."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    marks = [head * 10.0**e for e in range(low, high + 1) for head in (1, 2, 5)]
    return [m for m in marks if min(values) / 2 <= m <= 2 * max(values)]
