"""A run folder belongs to one study: recipes and seeds may be added, but what makes rows comparable stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lessen.core.errors import BadStudy
from lessen.core.task import Task
from lessen.store import Store
from lessen.study.plan import Study

FIXED = ("task", "model", "baseline", "final", "threads", "task_fingerprint")
FIXED_TARGET = ("device", "runtime", "threads", "batches")  # limits may change: they are no part of a measurement


def agree(study: Study, task: Task, baseline: str, store: Store, folder: Path) -> None:
    """Write the study's text into its folder. Errors: BadStudy naming the first thing that differs from before."""
    now = {**study.model_dump(mode="json"), "baseline": baseline, "task_fingerprint": task.fingerprint}
    text = store.describe() if store.path.is_file() else None
    if text is not None:
        before = json.loads(text)
        for name, ours, theirs in _differences(before, now):
            what = "data differ" if name == "task_fingerprint" else f"{name} is {ours!r}, here it is {theirs!r}"
            raise BadStudy(f"{folder} was made by another study: its {what}; name another run folder")
    store.set_description(json.dumps(now))
    temporary = folder / "study.yaml.new"
    temporary.write_text(study.text(), encoding="utf-8")
    temporary.replace(folder / "study.yaml")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    pairs = [(name, before.get(name), now[name]) for name in FIXED]
    target, wanted = before.get("target", {}), now["target"]
    pairs += [(f"target.{name}", target.get(name), wanted[name]) for name in FIXED_TARGET]
    return [pair for pair in pairs if pair[1] != pair[2]]
