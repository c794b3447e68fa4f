"""Whether a study went through: its failed trials, and the error that says so."""

from __future__ import annotations

from collections.abc import Sequence

from lessen.core.errors import LessenError
from lessen.core.trial import Trial
from lessen.study.plan import Study


def failed(trials: Sequence[Trial], study: Study) -> list[Trial]:
    """Those of the study's own recipes and seeds; a run folder may hold more."""
    return [t for t in trials if t.status == "failed" and t.key in study.keys]


def raise_failed(trials: Sequence[Trial], study: Study) -> None:
    """Errors: LessenError that names the first failed trial, where there is one."""
    lost = failed(trials, study)
    if lost:
        first = f"'{lost[0].recipe}'" if lost[0].recipe else "the baseline"
        raise LessenError(
            f"{len(lost)} of {len(study.keys)} trials failed, the first {first} of seed {lost[0].seed}: "
            f"{lost[0].error}; mend it and run again, what is done is kept"
        )
