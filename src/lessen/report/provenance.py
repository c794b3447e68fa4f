"""Where the numbers come from: machines, commands, versions, the study's own text."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lessen.core.text import parse_chain
from lessen.core.trial import Trial
from lessen.report import words
from lessen.report.summary import Summary

FOUND = ("task_fingerprint", "baselines")  # what a run adds to its study's description; no study file may say it


def machines(s: Summary) -> list[dict[str, Any]]:
    """Each machine and runtime with the number of trials measured on it."""
    seen: dict[tuple, dict[str, Any]] = {}
    for line in s.lines:
        for m in line.measured:
            row = seen.setdefault(tuple(m.machine.model_dump().values()), {**m.machine.model_dump(), "trials": 0})
            row["trials"] += 1
    return list(seen.values())


def notes(s: Summary) -> list[tuple[str, list[str]]]:
    """What steps and measurements remarked, each remark once, with the recipes it is about."""
    about: dict[str, list[int]] = {}
    for line in s.lines:
        said = [
            n for t in line.done for n in (*(n for r in t.records for n in r.notes), *(t.measurement or _NONE).notes)
        ]
        for note in dict.fromkeys(said):
            about.setdefault(note, []).append(line.number)
    return [(note, [str(n) for n in numbers]) for note, numbers in about.items()]


class _NONE:
    notes: tuple[str, ...] = ()


def failures(trials: Sequence[Trial]) -> list[tuple[str, str, list[int], float]]:
    """Recipe, error, the seeds that met it, and the seconds until then."""
    found: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        if trial.status == "failed":
            found.setdefault((trial.recipe, trial.error), []).append(trial)
    return [(*key, [t.seed for t in group], max(t.seconds for t in group)) for key, group in found.items()]


def read(text: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The study's description as a mapping, from JSON or YAML text; empty where it is neither."""
    if text is None or isinstance(text, Mapping):
        return dict(text or {})
    try:
        found = json.loads(text)
    except ValueError:
        import yaml

        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError:
            return {}
    return found if isinstance(found, dict) else {}


def study_text(description: Mapping[str, Any]) -> str:
    """The study file that makes all this again."""
    if not description:
        return ""
    import yaml

    asked = {name: value for name, value in description.items() if name not in FOUND}
    return yaml.safe_dump(json.loads(json.dumps(asked, default=str)), sort_keys=False, allow_unicode=True, width=110)


def file_commands(trial: Trial) -> str:
    """The lines that make one trial's artifact again, quoted for the shell.

    Its baseline was trained as the first records say, which may not be the task's own way; seed and threads decide the
    weights as well, and `lessen train` takes the threads that the surroundings name.
    """
    trained = " >> ".join(r.technique for r in trial.records[: len(trial.records) - len(parse_chain(trial.recipe))])
    how = ["--recipe", trained] if trained else []
    seed, base = ["--seed", str(trial.seed)], "small-baseline"
    lines = (
        ["lessen", "train", f"{trial.task}/{trial.model}", *how, *seed, "-o", base],
        ["lessen", "compress", base, trial.recipe, *seed, "-o", "small"],
    )
    return "\n".join(f"OMP_NUM_THREADS={trial.threads} {shlex.join(line)}" for line in lines)


def commands(folder: str) -> list[str]:
    """The lines that make the study and its report again."""
    again = shlex.quote(folder or "run")
    return [f"lessen study study.yaml -o {again}", f"lessen report {again}"]


def facts(s: Summary, trials: Sequence[Trial], extra: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values for the last section, in order; what is unknown is left out."""
    first = trials[0] if trials else None
    batches = [x for line in s.lines for x in line.speeds]
    pairs = [
        ("task", first.task if first else ""),
        ("task fingerprint (SHA-256)", ", ".join(dict.fromkeys(t.task_fingerprint for t in trials))),
        ("license of the data", str(extra.get("license") or "")),
        ("model", first.model if first else ""),
        ("seeds", ", ".join(map(str, sorted({t.seed for t in trials})))),
        ("training threads", ", ".join(map(str, sorted({t.threads for t in trials})))),
        ("timed calls", f"{min(x.runs for x in batches)} at each batch size and seed" if batches else ""),
        ("time spent", words.seconds(sum(t.seconds for t in trials)) if trials else ""),
        ("finished (UTC)", max((t.finished for t in trials), default="")),
        ("versions", ", ".join(f"{k} {v}" for k, v in (extra.get("versions") or {}).items())),
    ]
    return [(name, value) for name, value in pairs if value]


def from_manifest(run: Path, trials: Sequence[Trial]) -> dict[str, Any]:
    """License and versions as the first artifact's manifest names them; empty when the artifacts are gone."""
    for trial in trials:
        file = run / trial.artifact / "manifest.json"
        if trial.artifact and file.is_file():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                continue
            if isinstance(found, dict):
                versions = found.get("versions")
                return {"license": found.get("license"), "versions": versions if isinstance(versions, dict) else {}}
    return {}
