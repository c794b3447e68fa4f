"""A run folder belongs to one study: recipes and seeds may be added, but what makes rows comparable stays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lessen.core.errors import BadStudy
from lessen.core.task import Task
from lessen.store import Store
from lessen.study.plan import Study

FIXED = ("task", "model", "baseline", "final", "threads", "task_fingerprint")
STARTS = "baselines"  # seed -> key of the trained baseline
FIXED_TARGET = ("device", "runtime", "threads", "batches")  # limits may change: they are no part of a measurement


def agree(
    study: Study, task: Task, baseline: str, starts: Mapping[int, str], store: Store, folder: Path
) -> None:  # fmt: skip
    """Write the study's text into its folder. Errors: BadStudy naming the first thing that differs from before.

    starts: the key of the baseline of every seed that has something left to do. Rows are compared with a baseline that
    other code, or another machine, may have trained: what is done stays as it is, but nothing is added to it.
    """
    now = {**study.model_dump(mode="json"), "baseline": baseline, "task_fingerprint": task.fingerprint}
    now[STARTS] = {str(seed): key for seed, key in starts.items()}
    text = store.describe() if store.path.is_file() else None
    if text is not None:
        before = json.loads(text)
        for name, ours, theirs in _differences(before, now):
            what = "data differ" if name == "task_fingerprint" else f"{name} is {ours!r}, here it is {theirs!r}"
            raise BadStudy(f"{folder} was made by another study: its {what}; name another run folder")
        finished = {str(seed) for _, seed in store.done()}
        kept = {seed: key for seed, key in before.get(STARTS, {}).items() if seed in finished}
        if other := [seed for seed, key in kept.items() if now[STARTS].get(seed, key) != key]:
            raise BadStudy(
                f"{folder} has rows of seed {other[0]} whose baseline was trained by other code or on another machine; "
                "a new row could not be compared with them; name another run folder"
            )
        now[STARTS] |= kept
    store.set_description(json.dumps(now))
    temporary = folder / "study.yaml.new"
    temporary.write_text(study.text(), encoding="utf-8")
    temporary.replace(folder / "study.yaml")


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    pairs = [(name, before.get(name), now[name]) for name in FIXED]
    target, wanted = before.get("target", {}), now["target"]
    pairs += [(f"target.{name}", target.get(name), wanted[name]) for name in FIXED_TARGET]
    return [pair for pair in pairs if pair[1] != pair[2]]
