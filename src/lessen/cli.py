"""The command `lessen`: verbs that parse, call and print. No logic lives here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from lessen import commands, console, ending
from lessen.core.errors import BadField, UnknownName

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="Make trained models smaller and faster, and prove what that cost.",
    epilog="Add --debug to any command to see the traceback of an error.",
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Everything random follows from it.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads that the runtime may use.")]
Runtime = Annotated[str, typer.Option(help="onnxruntime or openvino (pip install 'lessen[openvino]').")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write; must not exist yet.")]


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="Run folder; resumed if it exists.")] = Path(
        "runs/demo"
    ),
    json: Json = False,
) -> None:
    """Train, compress, measure and report; digits, no download."""
    from lessen.study import Study

    commands.run(Study.read("demo"), output, json)


@app.command("list")
def list_(
    name: Annotated[str, typer.Argument(help="techniques, models, tasks, or one of them by its name.")] = "techniques",
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference page.")] = False,
) -> None:
    """Show techniques, models and tasks: fields, ranges and papers."""
    from lessen import listing

    if json:
        console.print_json(listing.as_json(listing.entries(name)))
    elif markdown:
        print(listing.page(name, listing.entries(name)))
    elif name in ("models", "tasks"):
        print(listing.brief(name))
    else:
        for entry in listing.entries(name):
            print(listing.lines(entry))


@app.command()
def train(
    what: Annotated[str, typer.Argument(metavar="TASK/MODEL", help="For example digits/cnn or cifar100/resnet20.")],
    output: Output,
    recipe: Annotated[str, typer.Option(metavar="RECIPE", help="How to train; the task's own way when left out.")] = "",
    seed: Seed = 0,
    final: Annotated[
        bool, typer.Option("--final", help="Train on train + validation, once all choices are made.")
    ] = False,
) -> None:
    """Train a baseline and pack it."""
    from lessen import catalog
    from lessen.core.text import split_pair, with_args
    from lessen.study import once
    from lessen.tasks import task

    task_text, model = split_pair(what)
    chosen = task(with_args(task_text, final=True) if final else task_text)
    how = catalog.recipe(recipe or chosen.baseline)
    with console.progress(what) as progress:
        made = once.train(chosen, model, output, how, seed=seed, progress=progress)
    print(f"{made.folder} is written; measure it by: lessen measure {made.folder}")


@app.command()
def compress(
    start: Annotated[str, typer.Argument(metavar="TASK/MODEL|ARTIFACT", help="digits/cnn, or an artifact's folder.")],
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="In quotes: 'ChannelPrune(ratio=0.4) >> Int8()'.")],
    output: Output,
    seed: Seed = 0,
    weights: Annotated[Optional[Path], typer.Option(help="Your own trained weights for TASK/MODEL.")] = None,  # noqa: UP045
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help="Open a pickle that can run code.")] = False,
    json: Json = False,
) -> None:
    """Apply a recipe, pack the result, and compare."""
    from lessen import catalog
    from lessen.measure import measure as take
    from lessen.study import once

    chosen = catalog.recipe(recipe)
    if not chosen.steps:
        raise BadField("the recipe is empty; write for example 'Int8()'")
    with console.progress(start) as progress:
        base, task = once.start(start, output, seed=seed, weights=weights, trust_pickle=trust_pickle, progress=progress)
        made = once.compress(base, task, chosen, output, seed=seed, progress=progress)
        progress(1.0, "measuring both files")
        found = {"before": take(base, task, baseline=base), "after": take(made, task, baseline=base)}
    if json:
        console.print_json({name: m.model_dump(mode="json") for name, m in found.items()})
    else:
        console.measurements(found, {"before": str(base.folder), "after": f"{made.folder}, {chosen}"})


@app.command()
def measure(
    folder: Annotated[Path, typer.Argument(metavar="ARTIFACT")],
    baseline: Annotated[Optional[Path], typer.Option(help="An artifact to compare with, run by run.")] = None,  # noqa: UP045
    task: Annotated[str, typer.Option(help="Another task text, for example with data=FOLDER.")] = "",
    runtime: Runtime = "onnxruntime",
    threads: Threads = 1,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs at each batch size.")] = 30,
    json: Json = False,
) -> None:
    """Measure an artifact: score, bytes, latency, memory."""
    from lessen.core.target import Target
    from lessen.measure import measure as take
    from lessen.tasks import task as find

    if runtime not in ("onnxruntime", "openvino"):
        raise UnknownName("runtime", runtime, ["onnxruntime", "openvino"])
    target = Target(runtime=runtime, threads=threads, runs=runs)  # type: ignore[arg-type]
    chosen = find(task) if task else None
    folders = {"baseline": baseline, "artifact": folder} if baseline else {"artifact": folder}
    with console.progress("measuring") as progress:
        found = {}
        for i, (name, path) in enumerate(folders.items()):
            progress(i / len(folders), str(path))
            found[name] = take(path, chosen, target=target, baseline=baseline)
    if json:
        console.print_json({name: m.model_dump(mode="json") for name, m in found.items()})
    else:
        console.measurements(found, {name: str(path) for name, path in folders.items()})


@app.command()
def inspect(
    what: Annotated[
        str, typer.Argument(metavar="TASK/MODEL|ARTIFACT|RUN", help="digits/cnn, an artifact's or a study's folder.")
    ],
    output: Output,
    sensitivity: Annotated[
        str, typer.Option(help="Scan every layer: prune, channels, rank, bits, clipping, or several: prune,bits.")
    ] = "",
    goal: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Propose ratios: weights_removed=0.7, bytes_kept=0.7, channels_removed_per_layer=0.7 ..."),
    ] = None,
    layer: Annotated[Optional[list[str]], typer.Option(help="Scan this layer only; may be repeated.")] = None,  # noqa: UP045
    quick: Annotated[bool, typer.Option("--quick", help="A fifth of the images on a coarser grid.")] = False,
    beside: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="TASK/MODEL|ARTIFACT|RECIPE",
            help="Compare with this one: weights, zeros, Grad-CAM; repeatable. Of a RUN, a recipe or an arm.",
        ),
    ] = None,
    at: Annotated[str, typer.Option(metavar="LAYER", help="Of Grad-CAM; by default the deepest of at least 8x8.")] = "",
    errors: Annotated[
        bool, typer.Option("--errors", help="With --beside QUANTIZED: each layer's error, alone and accumulated.")
    ] = False,
    close: Annotated[
        bool,
        typer.Option(
            "--close",
            help="With --beside STUDENT: how close its answers, features and gaze are; of a RUN, over its seeds.",
        ),
    ] = False,
    distributions: Annotated[
        bool, typer.Option("--distributions", help="Weights and activations: histograms, box plots, outliers.")
    ] = False,
    images: Annotated[Optional[int], typer.Option(help="Of validation to compare on; 200 when left out.")] = None,  # noqa: UP045
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Scan layers; compare models; errors and outliers."""
    options = commands.Looks(
        sensitivity=sensitivity, goals=goal or (), layers=layer or (), quick=quick, beside=beside or (), at=at,
        errors=errors, close=close, distributions=distributions, images=images, seed=seed,
    )  # fmt: skip
    commands.inspect(what, options, output, json)


@app.command()
def study(
    ctx: typer.Context,
    what: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A ready study or a YAML file.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", metavar="RUN", help="Run folder; resumed if it exists."),
    ] = None,
    task: Annotated[str, typer.Option(help="Another task: \"fashion(data='...')\".")] = "",
    model: Annotated[str, typer.Option(help="Another model: resnet8.")] = "",
    seeds: Annotated[str, typer.Option(help="Other seeds: 0,1,2.")] = "",
    show: Annotated[bool, typer.Option("--show", help="Print the study file, to copy and edit.")] = False,
    train_only: Annotated[
        bool, typer.Option("--train-only", help="Train into RUN/steps, for another machine's --trained.")
    ] = False,
    trained: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="STEPS", help="Steps that --train-only made elsewhere: pack and measure, train nothing."),
    ] = None,
    json: Json = False,
) -> None:
    """Run or resume recipes x seeds, and write the report."""
    from lessen.study import Study, files

    if show:
        print(files.text(files.path(what)), end="")
    elif output is None:
        raise ending.UsageError("missing option '-o' / '--output'", ctx)  # type: ignore[call-arg]
    elif train_only and trained:
        raise ending.UsageError("--train-only makes what --trained reads; give one of them", ctx)  # type: ignore[call-arg]
    else:
        numbers = files.seeds(seeds) if seeds else ()
        plan = Study.read(what).on(task=task, model=model, seeds=numbers)
        commands.train(plan, output, json) if train_only else commands.run(plan, output, json, trained)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="RUN/report.html, or FILE.md: questions alone.")
    ] = None,
) -> None:
    """Draw a run's report again, from its rows and predictions."""
    from lessen import report as reports

    print(reports.write(folder, output))


@app.command()
def schema(
    what: Annotated[str, typer.Argument(help="recipe or study")] = "study",
) -> None:
    """Print the JSON schema of recipes or of study files."""
    from lessen import catalog
    from lessen.study import Study

    known = {"recipe": catalog.schema, "study": Study.model_json_schema}
    if what not in known:
        raise UnknownName("schema", what, known)
    console.print_json(known[what]())


def main() -> None:
    """Run the command that the shell names."""
    ending.run(app)
