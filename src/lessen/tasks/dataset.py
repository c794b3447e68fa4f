"""How a data set becomes splits: the arguments that all image tasks share, and seeded stratified draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lessen.core.technique import Doc, Range, field_error
from lessen.core.text import format_call

if TYPE_CHECKING:
    import numpy as np

Crop = Annotated[int, Range("training images move by up to so many pixels each way", 0, 64)]
Flip = Annotated[bool, Doc("training images are mirrored left and right at random")]
Edge = Annotated[Literal["reflect", "zero"], Doc("what moves in at the edge")]
Data = Annotated[str, Doc("folder of the official files; by default they are searched, then downloaded")]
Verify = Annotated[bool, Doc("compare the files' MD5 with the official ones")]


class Settings(BaseModel):
    """How images are split and augmented. A data set extends this by its own arguments and by `load`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: ClassVar[str] = "images"

    seed: Annotated[int, Range("decides every split that is drawn", 0, 2**31 - 1)] = 0
    validation: Annotated[
        int | None, Range("images held out of training; by default a fifth of it, at most 5,000", 0, 10**9)
    ] = None
    limit: Annotated[int | None, Range("train on so many images only, for a quick look", 4, 10**9)] = None
    final: Annotated[bool, Doc("train on train + validation, after all choices were made")] = False
    crop: Crop = 0
    edge: Edge = "reflect"
    flip: Flip = False
    cutout: Annotated[int, Range("side in pixels of a square painted over in training; 0 is off", 0, 512)] = 0
    jitter: Annotated[float, Range("brightness, contrast and saturation vary by this share", 0.0, 1.0)] = 0.0
    jittered: Annotated[
        float, Range("validation and test images vary so, once and for all; training images do not", 0.0, 1.0)
    ] = 0.0
    mixup: Annotated[float, Range("alpha of the Beta law that blends training images; 0 is off", 0.0, 8.0)] = 0.0
    cutmix: Annotated[float, Range("share of training images that get a box of another; 0 is off", 0.0, 1.0)] = 0.0

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as e:
            raise field_error(self.name, type(self), e) from None

    def load(self) -> Images:
        """Read the data. Errors: BadData."""
        raise TypeError(f"{type(self).__name__} lacks load")

    def shared(self) -> dict[str, Any]:
        """The settings that belong to the fingerprint; where the files lie does not."""
        return self.model_dump(include=set(Settings.model_fields))

    def __str__(self) -> str:
        """The text that makes this value again; fields at their defaults are left out."""
        fields = type(self).model_fields
        return format_call(self.name, {k: v for k, v in self if v != fields[k].default})


@dataclass(frozen=True)
class Images:
    """A data set as read: x (n, c, h, w) uint8 and y (n,) class numbers, and the test split likewise.

    license: of the data. baseline: recipe text that trains a fresh model well.
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: tuple[str, ...]
    license: str = "unknown"
    baseline: str = "Finetune(epochs=30, lr=0.1)"


def draw(y: np.ndarray, n: int, seed: int, purpose: str) -> tuple[np.ndarray, np.ndarray]:
    """Sorted positions of n samples in which each class has its share (largest remainder), and of the rest."""
    import numpy as np

    random = np.random.default_rng([seed, *purpose.encode()])  # one stream a purpose: no draw shifts another
    classes, counts = np.unique(y, return_counts=True)
    take, remainder = np.divmod(counts * n, len(y))
    take[np.argsort(-remainder, kind="stable")[: n - take.sum()]] += 1
    chosen = np.zeros(len(y), bool)
    for k, m in zip(classes, take, strict=True):
        chosen[random.permutation(np.flatnonzero(y == k))[:m]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
