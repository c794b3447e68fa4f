"""The headline from a finished run: what the baseline scores, how small it got, and what that cost.

    python benchmarks/cifar100/headline.py RUN --recipe "QAT(bits=4, epochs=6)"     a recipe decided beforehand
    python benchmarks/cifar100/headline.py RUN --choice VALIDATED                  what another run's validation chooses
    python benchmarks/cifar100/headline.py RUN                                      where RUN itself has validation
    python benchmarks/cifar100/headline.py RUN0 RUN1 ...                            seeds that ran side by side
    options: --within 1.0   --trained STEPS   --commit HASH   -o results/cifar100   --readme README.md

Validation chooses the smallest file among the recipes that lose at most `--within` points there; the test score decides
nothing. A final run has no validation, so that its recipe must be named, or chosen by a run that has.

It writes headline.json, rows.json, front.md with front.svg (every recipe), the compressed artifact of the lowest seed,
the baseline's where its folder is under 20 MB, and README's section between `<!-- headline -->` and its end. All of it
follows from RUN and the arguments: run again, it writes the same bytes. `--trained` names the steps that another
machine made, which say what trained them; `--commit` what trained and measured, by default the last of src/lessen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import page

from lessen.artifact import load
from lessen.core.errors import BadField, BadStudy, LessenError
from lessen.core.text import parse_call
from lessen.core.trial import Trial
from lessen.report.summary import Line, Summary, summarize
from lessen.store import Store
from lessen.study.steps import MACHINE, read_machine

ROOT = Path(__file__).parents[2]
MOST = 20_000_000  # bytes of a baseline's folder that is kept beside the rows


def main() -> int:
    given = arguments()
    try:
        with tempfile.TemporaryDirectory() as folder:
            given.run = given.runs[0] if len(given.runs) == 1 else together(given.runs, Path(folder))
            rows, study = read(given.run)
            recipe, why = chosen(rows, given)
            found = headline(given.run, rows, study, recipe)
            found |= {"chosen_by": why, "commit": given.commit or commit(), "trained_on": trained_on(given, rows)}
            save(found, rows, given)
    except LessenError as e:
        print(f"headline: {e}", file=sys.stderr)
        return 1
    print(page.sentence(found))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--recipe", default="")
    how.add_argument("--choice", type=Path)
    parser.add_argument("--within", type=float, default=1.0)
    parser.add_argument("--trained", type=Path)
    parser.add_argument("--commit", default="")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "results/cifar100")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    return parser.parse_args()


def together(runs: Sequence[Path], folder: Path) -> Path:
    """One run folder with the finished rows of several of one study. Errors: BadStudy."""
    said = ""
    with Store(folder / "study.db") as store:
        for run in runs:
            with Store(run / "study.db") as one:
                about = json.loads(one.describe() or "{}")
                apart = {k: about.get(k) for k in ("task", "model", "baseline", "final", "threads")}
                if said and json.loads(said) != apart:
                    raise BadStudy(f"{run} is of another study than {runs[0]}: {apart}, not {said}; leave it out")
                said = said or json.dumps(apart)
                store.set_description(one.describe() or "")
                for trial in one.trials():
                    if trial.key in store.done():
                        raise BadStudy(f"{run} has '{trial.recipe}' of seed {trial.seed}, as another run has; name one")
                    store.add(trial)
                    for file in filter(None, (trial.artifact, trial.predictions)):
                        (folder / file).parent.mkdir(exist_ok=True)
                        (folder / file).symlink_to((run / file).absolute())
            if (run / "steps" / MACHINE).is_file():
                (folder / "steps").mkdir(exist_ok=True)
                shutil.copyfile(run / "steps" / MACHINE, folder / "steps" / MACHINE)
    return folder


def read(run: Path) -> tuple[list[Trial], dict[str, Any]]:
    """The rows of a run's study, baseline first, and its description. Errors: BadStudy."""
    with Store(run / "study.db") as store:
        trials, study = store.trials(), json.loads(store.describe() or "{}")
    if not any(not t.recipe and t.measurement for t in trials):
        raise BadStudy(f"{run} has no baseline that is packed and measured; run its stage to the end first")
    named = next((t.task for t in trials if "data" in parse_call(t.task).args), None)
    if named:
        raise BadStudy(
            f"the rows of {run} name a folder of this machine, {named}; run it through stage.py or LESSEN_DATA"
        )
    return sorted(trials, key=lambda t: (t.recipe != "", t.recipe, t.seed)), study


def chosen(rows: Sequence[Trial], given: argparse.Namespace) -> tuple[str, str]:
    """The recipe, and who chose it. Errors: BadField, BadStudy."""
    if given.recipe:
        from lessen import catalog

        return str(catalog.recipe(given.recipe)), "named beforehand"
    source = read(given.choice)[0] if given.choice else rows
    summary = summarize(source, {"max_drop": given.within / 100})
    if summary.scored_by == "test":
        raise BadField(
            f"{given.choice or given.run} is final and has no validation to choose by; name what was decided "
            "beforehand by --recipe, or a run that has by --choice"
        )
    best = summary.choice["smallest"]
    if best is None:
        raise BadStudy(f"no recipe of {given.choice or given.run} loses at most {given.within:g} points of validation")
    return best.recipe, f"validation: the smallest file that loses at most {given.within:g} points there"


def headline(run: Path, rows: Sequence[Trial], study: dict[str, Any], recipe: str) -> dict[str, Any]:
    """Everything that is told, as numbers. Errors: BadStudy where a seed is missing."""
    summary = summarize(rows)
    base, small = line(summary, "", run), line(summary, recipe, run)
    seeds = [t.seed for t in base.done]
    if [t.seed for t in small.done] != seeds:
        raise BadStudy(
            f"'{recipe}' is done for seeds {[t.seed for t in small.done]}, the baseline for {seeds}; finish it"
        )
    first = base.done[0]
    manifests = {name: load(run / x.done[0].artifact).manifest for name, x in (("base", base), ("small", small))}
    command = "python benchmarks/cifar100/stage.py"
    assert first.measurement and base.runnable and small.runnable and base.transport and small.transport
    return {
        "task": first.task, "task_fingerprint": first.task_fingerprint, "final": first.final,
        "test_images": first.measurement.test.n,
        "baseline": {
            **told(base), "model": short(manifests["base"].model), "recipe": study.get("baseline", ""),
            "command": f"{command} baseline --data DIR",
        },
        "compressed": {
            **told(small), "model": short(manifests["small"].model), "recipe": recipe,
            "command": f"{command} front --data DIR",
        },
        "times_smaller": base.runnable / small.runnable, "times_smaller_transport": base.transport / small.transport,
        "difference": page.difference(run, base, small),
        "machine": first.measurement.machine.model_dump(), "versions": manifests["small"].versions, "seeds": seeds,
        "front": page.rows(run, summary),
    }  # fmt: skip


def line(summary: Summary, recipe: str, run: Path) -> Line:
    """A recipe's numbers. Errors: BadStudy for one that is not there or not done."""
    found = next((x for x in summary.lines if x.recipe == recipe and x.measured), None)
    if found is None:
        known = ", ".join(f"'{x.recipe}'" for x in summary.lines if x.recipe and x.measured)
        raise BadStudy(f"{run} has no finished row of '{recipe}'; it has {known or 'the baseline alone'}")
    return found


def told(x: Line) -> dict[str, Any]:
    """A recipe's numbers, with its own latency."""
    return {**page.numbers(x), "latency_ms": {str(s.batch): s.ms.mean for s in x.speeds}}


def short(model: str) -> str:
    """A builder's text without what the data decides: fast75(width=0.5)."""
    call = parse_call(model)
    args = ", ".join(f"{k}={v!r}" for k, v in call.args.items() if k not in ("shape", "classes"))
    return f"{call.name}({args})" if args else call.name


def trained_on(given: argparse.Namespace, rows: Sequence[Trial]) -> dict[str, Any]:
    """torch and the device that trained; without steps that say so, the machine that measured."""
    folder = given.trained or given.run / "steps"
    if given.trained or (folder / MACHINE).is_file():
        torch, device = read_machine(folder)
        return {"torch": torch, "device": device, "threads": rows[0].threads}
    first = next(t for t in rows if not t.recipe and t.measurement)
    assert first.measurement
    cpu = first.measurement.machine.cpu
    return {
        "torch": load(given.run / first.artifact).manifest.versions["torch"],
        "device": cpu,
        "threads": rows[0].threads,
    }


def commit() -> str:
    """The last commit of the code that trains and measures. Errors: BadStudy where it was changed since."""
    code = ["--", "src/lessen"]
    if git("status", "--porcelain", *code):
        raise BadStudy("src/lessen has changes that are not committed; commit them, or name what measured by --commit")
    return git("log", "-1", "--format=%H", *code)


def git(*args: str) -> str:
    try:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as e:
        raise BadStudy(f"git cannot tell the commit ({e}); name it by --commit") from None
    return done.stdout.strip()


def save(found: dict[str, Any], rows: Sequence[Trial], given: argparse.Namespace) -> None:
    """Write everything; README last."""
    out: Path = given.output
    out.mkdir(parents=True, exist_ok=True)
    for name, recipe in (("compressed", found["compressed"]["recipe"]), ("baseline", "")):
        trial = next(t for t in rows if t.recipe == recipe and t.measurement)
        whole = name == "compressed" or (trial.measurement and trial.measurement.bytes.folder < MOST)
        shutil.rmtree(out / name, ignore_errors=True)
        if whole:
            shutil.copytree(given.run / trial.artifact, out / name)
        seen = trial.measurement
        assert seen
        found[name]["artifact"] = {"folder": name if whole else None, "seed": trial.seed, "test_top1": seen.test.value}
    (out / "rows.json").write_text(json.dumps({"trials": [t.model_dump(mode="json") for t in rows]}, indent=1) + "\n")
    (out / "headline.json").write_text(json.dumps(found, indent=1) + "\n")
    page.write(found, out)
    page.into(given.readme, page.section(found, os.path.relpath(out, given.readme.parent)))


if __name__ == "__main__":
    sys.exit(main())
