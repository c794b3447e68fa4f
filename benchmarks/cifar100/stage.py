"""One stage of the CIFAR-100 evidence for at most so many minutes; the same command goes on where it stopped.

    python benchmarks/cifar100/stage.py baseline --data DIR                     all of it, on this machine
    python benchmarks/cifar100/stage.py baseline --data DIR --minutes 9         a piece of it
    python benchmarks/cifar100/stage.py baseline --data DIR --minutes 9 --train-only     on a GPU: weights alone
    python benchmarks/cifar100/stage.py baseline --data DIR --trained STEPS     behind it: pack and measure here
    python benchmarks/cifar100/stage.py baseline --data DIR --small             a rehearsal of minutes
    options: -o RUN   --model vgg16   --seeds 0,1

It runs `lessen study` on the stage's file and sends it an interrupt when the time is over; what is done is kept, and of
a training that was cut short its last whole epoch. It exits 0 when the stage is whole, 75 when there is more to do, and
otherwise as the study did. DIR is found through LESSEN_DATA, so that rows and artifacts name no folder of this machine.

--small shrinks that very file, recipe by recipe: nets of a quarter of the width, 500 training images, few epochs (the
file's numbers of epochs become 1, 2, 3 in their order), one seed unless --seeds names some.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lessen import catalog
from lessen.core.errors import BadData, LessenError, UnknownName
from lessen.core.target import Target
from lessen.core.text import parse_call, with_args
from lessen.store import Store
from lessen.study import Study, files
from lessen.study.steps import Place, Steps
from lessen.tasks import cifar, source, task

HERE = Path(__file__).parent
MORE = 75  # what shells call a failure for the time being
INTERRUPTED = 130  # how a study ends that was asked to stop
GRACE = 60.0  # seconds from the interrupt to the end
WIDTH, IMAGES, HELD = 0.25, 500, 200  # of a rehearsal: of nets, in training, in validation
BYTES_KEPT = 0.9  # of bytes, for MixedBits in a rehearsal: graph and norms are most of a narrow net's file
EPOCHS = ("epochs", "teacher_epochs")
SHARED = {"front": "baseline", "quantization": "pruning"}  # stages that start from another's nets share its run folder


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as `timeout` sends it: the study is to end first
    try:
        os.environ["LESSEN_DATA"] = str(data(given.data))
        study = read(given.stage).on(model=given.model, seeds=files.seeds(given.seeds) if given.seeds else ())
        study = shrunk(study, all_seeds=bool(given.seeds)) if given.small else study
        run = given.output or folder(given.stage, study, given.small)
        code = work(study, run, given)
        if code in (0, MORE):
            tell(study, run, given, whole=code == 0)
        return code
    except KeyboardInterrupt:
        print("stage: stopped; the same command goes on from there", file=sys.stderr)
        return MORE
    except LessenError as e:
        print(f"stage: {e}", file=sys.stderr)
        return 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("stage")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--model", default="")
    parser.add_argument("--seeds", default="")
    parser.add_argument("--small", action="store_true")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--train-only", action="store_true")
    where.add_argument("--trained", type=Path)
    return parser.parse_args()


def read(stage: str) -> Study:
    """The study of a stage. Errors: UnknownName, and those of Study."""
    known = sorted(file.stem for file in HERE.glob("*.yaml"))
    if stage not in known:
        raise UnknownName("stage", stage, known)
    return Study.read(HERE / f"{stage}.yaml")


def data(given: Path) -> Path:
    """The folder above the official files. Errors: BadData."""
    found = source.find(cifar.CIFAR100.folder, cifar.CIFAR100.files, str(given))
    assert found is not None  # what is given is found, or an error
    if found.name != cifar.CIFAR100.folder:
        raise BadData(f"{found} must be called {cifar.CIFAR100.folder}; rename it and name the folder above it")
    return found.absolute().parent


def folder(stage: str, study: Study, small: bool) -> Path:
    """Where a stage's rows go: teachers have a folder each, since a run folder belongs to one model."""
    name = study.model if stage == "teachers" else SHARED.get(stage, stage)
    name = re.sub(r"[^a-z0-9.]+", "-", name).strip("-")
    return Path("runs") / ("cifar100-small" if small else "cifar100") / name


def shrunk(study: Study, *, all_seeds: bool = False) -> Study:
    """The same study, quickly over. Epochs that differ still differ, so that no two recipes become one."""
    baseline = {n: i for i, n in enumerate(epochs([study.baseline]), 1)}  # apart: stages that share one still share it
    others = {n: i for i, n in enumerate(epochs(study.everything), 1)}
    fields = study.model_dump()
    comparisons = [
        {**c, "arms": {arm: [smaller(r, others) for r in recipes] for arm, recipes in c["arms"].items()}}
        for c in fields["comparisons"]
    ]
    return Study(**{
        **fields, "name": f"{study.name}, small", "task": with_args(study.task, limit=IMAGES, validation=HELD),
        "model": with_args(study.model, width=WIDTH), "baseline": smaller(study.baseline, baseline),
        "comparisons": comparisons,
        "recipes": [smaller(r, others) for r in study.recipes], "seeds": study.seeds if all_seeds else study.seeds[:1],
        "target": Target(runs=3),
    })  # fmt: skip


def epochs(texts: Iterable[str]) -> list[int]:
    """All numbers of epochs in these recipes, rising."""
    steps = [step for text in texts for step in catalog.recipe(text)]
    return sorted({getattr(step, name) for step in steps for name in EPOCHS if getattr(step, name, 0)})


def smaller(text: str, places: Mapping[int, int]) -> str:
    """A recipe with narrower students and larger shares of bytes; `places` gives the epochs in place of each number."""
    found = []
    for step in catalog.recipe(text):
        less: dict[str, Any] = {name: places[n] for name in EPOCHS if (n := getattr(step, name, 0))}
        if student := parse_call(str(step)).args.get("model"):
            less["model"] = with_args(student, width=WIDTH)
        if getattr(step, "of", "") == "bytes kept" and hasattr(step, "budget"):
            less["budget"] = BYTES_KEPT
        found.append(with_args(str(step), **less))
    return " >> ".join(found)


def work(study: Study, run: Path, given: argparse.Namespace) -> int:
    """Run the study until it ends or its time is over: 0, MORE, or the status it ended with."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / f"{given.stage}.yaml"
        file.write_text(study.text(), encoding="utf-8")
        command = [sys.executable, "-m", "lessen", "study", str(file), "-o", str(run)]
        command += ["--train-only"] if given.train_only else []
        command += ["--trained", str(given.trained)] if given.trained else []
        job = subprocess.Popen(command, start_new_session=True, preexec_fn=interruptible)
        try:
            return job.wait(60 * given.minutes if given.minutes else None)
        except subprocess.TimeoutExpired:
            code = stop(job)
            return MORE if code in (0, INTERRUPTED) else code
        except KeyboardInterrupt:
            stop(job)
            raise


def interruptible() -> None:
    """A shell that runs this in the background has its children ignore interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stop(job: subprocess.Popen[bytes]) -> int:
    """Interrupt the study; its status. One that does not end is killed, which loses an epoch at most."""
    job.send_signal(signal.SIGINT)
    try:
        return job.wait(GRACE)
    except subprocess.TimeoutExpired:
        job.kill()
        job.wait()
        return INTERRUPTED


def tell(study: Study, run: Path, given: argparse.Namespace, *, whole: bool) -> None:
    """One line: what is done, what is left, and how to go on."""
    done, wanted = trained(study, run) if given.train_only else measured(study, run)
    what = "steps trained" if given.train_only else "trials packed and measured"
    if whole and given.train_only:
        left = f"bring {run / 'steps'} to where it is packed and measured, with --trained"
    else:
        left = f"{run / 'report.html'}" if whole else f"{wanted - done} left: run the same command again"
    print(f"stage {given.stage}: {done} of {wanted} {what}; {left}", flush=True)


def measured(study: Study, run: Path) -> tuple[int, int]:
    """Trials that are done, and all."""
    wanted = study.keys
    database = run / "study.db"
    if not database.is_file():
        return 0, len(wanted)
    with Store(database) as store:
        return len(wanted & store.done()), len(wanted)


def trained(study: Study, run: Path) -> tuple[int, int]:
    """Steps that are there, and all: recipes share their beginnings."""
    steps, found = steps_of(study, run), dict[str, bool]()
    for seed in study.seeds:
        base = baseline_places(study, steps, seed)
        found |= {place.key: steps.has(place) for place in base}
        for recipe in study.everything:
            place = base[-1].as_baseline()
            for step in catalog.recipe(recipe):
                place = steps.after(place, step)
                found[place.key] = steps.has(place)
    return sum(found.values()), len(found)


def steps_of(study: Study, run: Path) -> Steps:
    """The cache of steps in a run folder, as the study would use it."""
    chosen = task(with_args(study.task, final=True) if study.final else study.task)
    return Steps(run / "steps", chosen, study.threads)


def baseline_places(study: Study, steps: Steps, seed: int) -> list[Place]:
    """Where the model stands behind each step of the baseline."""
    found, place = [], steps.start(study.model, seed)
    for step in catalog.recipe(study.baseline or steps.task.baseline):
        place = steps.after(place, step)
        found.append(place)
    return found


if __name__ == "__main__":
    sys.exit(main())
