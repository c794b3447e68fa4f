"""Every error a user can meet: one line that says what is wrong, where, and the mend."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LessenError(Exception):
    """Base of all expected errors; the command line prints its one line and exits with 1."""


class UnknownName(LessenError):
    """A technique, task, model, study or file key that does not exist.

    >>> str(UnknownName("technique", "MagnitudPrune", ["MagnitudePrune", "Int8"]))
    "unknown technique 'MagnitudPrune'; did you mean 'MagnitudePrune'?"
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], mend: str = "") -> None:
        known = list(known)
        close = _nearest(name, known)
        every = f"known: {', '.join(known)}" if known else "none is known"
        hint = f"did you mean '{close}'?" if close else every
        super().__init__(f"unknown {kind} '{name}'; {hint}{' ' + mend if mend else ''}")


def _nearest(name: str, known: list[str]) -> str | None:
    """The known name most like this one; of dotted paths, one whose last parts are: 'conv1' finds 'features.conv1'."""
    wholes = {k.lower(): k for k in known}
    parts = {k.lower()[i + 1 :]: k for k in known for i, letter in enumerate(k) if letter == "."}
    for names, likeness in ((wholes, 0.6), (parts, 0.7)):
        close = get_close_matches(name.lower(), names, n=1, cutoff=likeness)
        if close:
            return names[close[0]]
    return None


class BadField(LessenError):
    """A technique's or a file's field is missing, of the wrong type, or out of its range."""


class BadRecipe(LessenError):
    """A recipe's, task's or model's text cannot be read."""


class Refused(LessenError):
    """An order or a combination that makes no sense: says why and what to do first."""


class BadData(LessenError):
    """A data file is missing, truncated or altered, or a folder is no data set."""


class BadArtifact(LessenError):
    """An artifact is incomplete, altered, or cannot be described."""


class DiskFull(LessenError):
    """Nothing more can be written; what was being written was removed."""


class Disagreement(LessenError):
    """The packed file does not compute what the model computes; names the worst layer."""


class Diverged(LessenError):
    """Training met a loss that is not finite; names the step."""


class BadStudy(LessenError):
    """A study file or a run folder cannot be used."""


class Busy(LessenError):
    """Another process holds the folder or the machine; says which."""
