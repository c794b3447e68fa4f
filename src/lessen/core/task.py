"""The interface of a task: data, how to build a model for it, its loss and its score.

Techniques know only this. What depends on the training framework is behind it.
Tensors are `Any` here because this room does not know torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

from lessen.core.record import TOP1, Cost

SplitName = Literal["train", "validation", "test", "calibration"]


class Split(NamedTuple):
    """Samples as stored and their targets: for images x (n, c, h, w) uint8, y (n,) int64."""

    x: Any
    y: Any

    def __len__(self) -> int:  # a split's length is its samples, not its two fields
        return len(self.y)


class Task(ABC):
    """Data (train, validation, test, calibration), a model builder, a loss and a score.

    The splits are disjoint, but for calibration, which is drawn from train. A task made with
    `final=True` trains on train + validation, and its validation split is empty.
    """

    text: str  # the call that makes this task again, for example "digits(seed=0)"
    fingerprint: str  # SHA-256 over the data, the splits and the settings
    license: str  # of the data
    classes: tuple[str, ...]
    shape: tuple[int, ...]  # of one sample, for images (c, h, w)
    baseline: str  # recipe text that trains a fresh model well
    final: bool = False

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """The samples as stored, on the CPU."""

    @abstractmethod
    def inputs(self, x: Any) -> Any:
        """Stored samples -> what the model takes (float32, normalized), on x's device."""

    @abstractmethod
    def augment(self, x: Any, generator: Any) -> Any:
        """Stored samples -> randomly changed model inputs, for training; batched, on x's device."""

    def mix(self, x: Any, y: Any, generator: Any) -> tuple[Any, Any]:
        """Augmented inputs and their targets blended among themselves (mixup, CutMix); by default as they are."""
        return x, y

    @abstractmethod
    def loss(self, outputs: Any, y: Any, smoothing: float = 0.0) -> Any:
        """The scalar to minimize."""

    def score(self, outputs: Any, y: Any) -> float:
        """Share of right answers, between 0 and 1, of outputs (n, classes), which are all finite.

        A task may have its own: between 0 and 1, higher is better. Everything that chooses and reports goes by it,
        and puts a surely wrong answer in the place of one that is not finite before it asks.
        """
        return float((outputs.argmax(1) == y).sum()) / len(y)

    @property
    def scored_by(self) -> str:
        """ "top-1" where `score` is the share of right answers as above, else the name of the task's own."""
        own = getattr(self.score, "__func__", self.score)
        name: str = getattr(own, "__qualname__", type(own).__name__)
        return TOP1 if own is Task.score else name.rpartition("<locals>.")[2]

    @abstractmethod
    def preprocess(self) -> dict[str, Any]:
        """What `inputs` does, as JSON: goes into the manifest for whoever ships the file."""

    @abstractmethod
    def build(self, model: str) -> Any:
        """A fresh model from text, for example "resnet8(width=0.5)"; weights come from the current seed."""

    @abstractmethod
    def copy(self, model: Any) -> Any:
        """A private copy that shares nothing with the original."""

    @abstractmethod
    def seeded(self, seed: int) -> AbstractContextManager[None]:
        """Within it all randomness follows from the seed; afterwards the caller's is as it was."""

    @abstractmethod
    def cost(self, model: Any) -> Cost:
        """Parameters, non-zeros, multiply-accumulates and stored bits, counted."""

    @abstractmethod
    def evaluate(self, model: Any, name: SplitName) -> float | None:
        """The model's score on a split in the training framework; None when the split is empty."""
