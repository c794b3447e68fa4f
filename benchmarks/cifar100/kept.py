"""Weights of the baseline that lie in the repository, and steps of a run: hours of training are not done twice.

    python benchmarks/cifar100/kept.py take RUN --data DIR     into RUN/steps, for `stage.py front -o RUN`
    python benchmarks/cifar100/kept.py keep RUN --data DIR     out of RUN/steps, for the repository
    options: --seeds 0,1   --folder results/cifar100/trained   --commit HASH (of what trained; else of src/lessen)

SEED.safetensors are the weights behind the last step of the baseline, SEED.json says who trained them and how: recipe,
losses, seconds, commit. Steps are named by the code of the day, so to take weights of an earlier commit is to say that
it would have trained the same; a recipe that reads otherwise is refused.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import headline
import page
import stage

from lessen import catalog
from lessen.core.errors import BadStudy, LessenError
from lessen.core.record import Record
from lessen.study import Study, files
from lessen.study.steps import RECORD

FOLDER = headline.ROOT / "results/cifar100/trained"
WEIGHTS = "weights.safetensors"


def main() -> int:
    given = arguments()
    try:
        os.environ["LESSEN_DATA"] = str(stage.data(given.data))
        study = stage.read("baseline")
        seeds = files.seeds(given.seeds) if given.seeds else study.seeds
        for seed in seeds:
            if given.way == "take":
                print(take(study, seed, given.run, given.folder))
            else:
                print(keep(study, seed, given.run, given.folder, given.commit or headline.commit()))
    except LessenError as e:
        print(f"kept: {e}", file=sys.stderr)
        return 1
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("way", choices=("take", "keep"))
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", default="")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--commit", default="")
    return parser.parse_args()


def take(study: Study, seed: int, run: Path, source: Path) -> str:
    """Put kept weights among the steps; what it did, in words. Errors: BadStudy."""
    from safetensors.torch import load_file

    from lessen.models.state import save_model

    said = read(source / f"{seed}.json")
    records = [Record.model_validate(r) for r in said["records"]]
    wanted, got = ([str(s) for s in catalog.recipe(study.baseline)], [r.technique for r in records])
    if (said["model"], got) != (study.model, wanted):
        raise BadStudy(
            f"{source / f'{seed}.json'} is of {said['model']} by {' >> '.join(got)}, the baseline is {study.model} by "
            f"{' >> '.join(wanted)}; train it by stage.py, or take the file of that recipe"
        )
    steps = stage.steps_of(study, run)
    steps.name_machine()
    there = stage.baseline_places(study, steps, seed)
    if all(map(steps.has, there)):
        return f"seed {seed}: is there already"
    model = steps.task.build(study.model)
    model.load_state_dict(load_file(source / f"{seed}.safetensors"))
    for place, record in zip(there, records, strict=True):
        if steps.has(place):
            continue
        new = steps.folder / f"{place.key}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        if place is there[-1]:  # of steps before it nobody needs the weights
            save_model(model, new)
        (new / RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")
        new.rename(steps.folder / place.key)
    return f"seed {seed}: {len(there)} steps, trained at {said['commit'][:12]} on {said['machine']}"


def keep(study: Study, seed: int, run: Path, to: Path, commit: str) -> str:
    """Copy a run's weights and records. Errors: BadStudy where its baseline is not whole."""
    steps = stage.steps_of(study, run)
    there = stage.baseline_places(study, steps, seed)
    if not all(map(steps.has, there)):
        raise BadStudy(
            f"{steps.folder} has not every step of the baseline of seed {seed} by this code; train it by stage.py"
        )
    to.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(steps.folder / there[-1].key / WEIGHTS, to / f"{seed}.safetensors")
    torch, device = steps.machine
    said = {
        "model": study.model, "task": steps.task.text, "seed": seed, "commit": commit,
        "machine": f"{page.device(device)}, threads: {study.threads}, torch {torch}",
        "records": [json.loads((steps.folder / place.key / RECORD).read_text(encoding="utf-8")) for place in there],
    }  # fmt: skip
    (to / f"{seed}.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    return f"seed {seed}: kept as {to / f'{seed}.safetensors'}"


def read(file: Path) -> dict[str, Any]:
    """Errors: BadStudy."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise BadStudy(f"cannot read {file} ({e}); train that seed by stage.py") from None


if __name__ == "__main__":
    sys.exit(main())
