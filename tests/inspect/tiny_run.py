"""A study's run on digits in seconds: trained and stored as ever, but nothing is exported and no score is taken."""

from __future__ import annotations

from pathlib import Path

from lessen.artifact import Artifact
from lessen.artifact.manifest import NAME, Fidelity, Manifest, entry
from lessen.core.record import Bytes, Machine, Measurement, Score
from lessen.models.state import STRUCTURE, WEIGHTS, save_model
from lessen.study import Study
from lessen.study.execute import Executor

HERE = Machine(cpu="c", cores=2, threads=1, memory_gib=8.0, system="s", python="3.11", runtime="r")
EXACT = Fidelity(n=1, agreement=1.0, sqnr_db=99.0, least_agreement=0.9, sure_sqnr_db=20.0, least_sqnr_db=5.0)
TAUGHT = "Student(width=0.25) >> LogitDistill(epochs=2, batch=32)"
ALONE = "Student(width=0.25) >> Finetune(epochs=2, lr=0.05, batch=32)"
STUDY = Study(
    name="tiny", task="digits(limit=200)", model="cnn(width=0.5)", baseline="Finetune(epochs=3, lr=0.05, batch=32)",
    recipes=("Int8()",), seeds=(0, 1, 2),
    comparisons=(
        {"question": "Which?", "arms": {"alone": ALONE, "taught": TAUGHT, "itself": ""}},
        {"question": "How long?", "arms": {"long": [TAUGHT, ALONE], "short": ALONE}, "x": "parameters"},
    ),
)  # fmt: skip


def run(study: Study, folder: Path) -> None:
    Executor(study, folder, pack=_pack, measure=_measure).run()


def _pack(model, task, folder: Path, *, recipe, seed, records, parent) -> Artifact:
    folder.mkdir(parents=True)
    save_model(model, folder)
    manifest = Manifest(
        recipe=recipe, seed=seed, model=str(model.builder), task=task.text, task_fingerprint=task.fingerprint,
        final=task.final, license=task.license, classes=task.classes, shape=task.shape, preprocess=task.preprocess(),
        cost=task.cost(model), fidelity=EXACT, computes="", records=tuple(records), versions={},
        files={name: entry(folder / name, "compress") for name in (STRUCTURE, WEIGHTS)},
    )  # fmt: skip
    (folder / NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    return Artifact(folder, manifest)


def _measure(artifact, task, *, target, baseline, predictions, tell) -> Measurement:
    score = Score(value=0.5, low=0.4, high=0.6, n=100)
    return Measurement(
        validation=score, test=score, bytes=Bytes(runnable=1, transport=1, folder=1), latency=(),
        cost=artifact.manifest.cost, peak_memory_mib=1.0, machine=HERE,
    )  # fmt: skip
