"""How much is to go, said so that it cannot be misread: `weights_removed=0.7`, `bytes_kept=0.7`."""

from __future__ import annotations

from dataclasses import dataclass

from lessen.core.errors import BadField, UnknownName

GOALS = {
    "weights_removed": "share of all weights that goes",
    "bytes_removed": "share of the bytes of all parameters that goes",
    "bytes_kept": "share of the bytes of all parameters that stays",
    "channels_removed": "share of all channels that goes, more from one layer than from another",
    "channels_removed_per_layer": "share of its channels that every layer loses",
}


@dataclass(frozen=True)
class Goal:
    """A goal by its name, and the share as the user gave it."""

    name: str
    share: float

    @staticmethod
    def read(text: str) -> Goal:
        """Read `weights_removed=0.7`. Errors: UnknownName, BadField.

        >>> Goal.read("bytes_kept=0.7").keep
        0.7
        """
        name, _, value = text.partition("=")
        name = name.strip()
        if name not in GOALS:
            raise UnknownName("goal", name, GOALS, "and give a share, for example weights_removed=0.7")
        try:
            share = float(value)
        except ValueError:
            raise BadField(f"goal '{text}' has no share; write for example {name}=0.7") from None
        if not (0 < share <= 1 if name == "bytes_kept" else 0 <= share < 1):
            span = "above 0 and at most 1" if name == "bytes_kept" else "at least 0 and below 1"
            raise BadField(f"goal {name} = {value.strip()} must be {span} ({GOALS[name]})")
        return Goal(name, share)

    @property
    def unit(self) -> str:
        """weights, bytes or channels."""
        return self.name.partition("_")[0]

    @property
    def keep(self) -> float:
        """The share that stays at most."""
        return self.share if self.name == "bytes_kept" else 1 - self.share

    @property
    def even(self) -> bool:
        """Whether every layer loses the same share."""
        return self.name == "channels_removed_per_layer"

    def said(self, kept: float) -> str:
        """This goal's text for another share kept."""
        return f"{self.name}={kept if self.name == 'bytes_kept' else 1 - kept:.3g}"

    def __str__(self) -> str:
        return f"{self.name}={self.share:g}"
