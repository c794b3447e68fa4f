"""What a study's files answered: predictions of every test image, stored beside the rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from lessen.analyze.points import Answers
from lessen.core.record import TOP1
from lessen.core.trial import Trial

if TYPE_CHECKING:
    import numpy as np

Labels = Callable[[Trial], "np.ndarray | None"]  # what was to be answered (n,), whole numbers; None when gone


def nobody(trial: Trial) -> None:
    """The answers, or labels, of no trial are known."""


def right_answers(run: Path) -> Answers:
    """Reads predictions beside the rows of a run folder; None where they are gone or are not those that were scored."""
    import numpy as np

    def read(trial: Trial) -> Any:
        found = _arrays(run, trial)
        if found is None or trial.measurement is None:
            return None
        classes, targets, probabilities = found
        right = (classes == targets) & np.isfinite(probabilities).all(1)
        test = trial.measurement.test
        whole = test.by != TOP1 or int(right.sum()) == round(test.value * test.n)
        return right if len(right) == test.n and whole else None

    return read


def true_labels(run: Path) -> Labels:
    """Reads the classes of the test images from there."""

    def read(trial: Trial) -> Any:
        found = _arrays(run, trial)
        return None if found is None else found[1]

    return read


def class_names(run: Path, trials: Iterable[Trial]) -> tuple[str, ...]:
    """As the first manifest that is there has them; empty where none is."""
    for trial in trials:
        try:
            found = json.loads((run / trial.artifact / "manifest.json").read_text(encoding="utf-8"))["classes"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return tuple(map(str, found))
    return ()


def _arrays(run: Path, trial: Trial) -> tuple[Any, Any, Any] | None:
    import numpy as np

    if not trial.predictions:
        return None
    try:
        with np.load(run / trial.predictions) as file:
            return file["classes"], file["targets"], file["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
