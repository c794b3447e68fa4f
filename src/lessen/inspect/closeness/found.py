"""The verb: how close each model beside the original is to it, and which of two is closer; values, no words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lessen.core.errors import BadField
from lessen.core.run import silent
from lessen.report.offline import finite

if TYPE_CHECKING:
    from lessen.core.task import Task
    from lessen.inspect.closeness.answers import Answers
    from lessen.inspect.closeness.contests import Contest
    from lessen.inspect.closeness.features import Aligned, Attention, Picture
    from lessen.inspect.side_by_side import Beside, Shown

FEWEST = 20  # images that CKA with an interval needs


@dataclass(frozen=True)
class Close:
    """What was found. names, about: of the models, the original first, which all else follows.

    aligned: CKA. attention: by size of map, large first. contests: the first model beside the original against each
    other one. looked: why there is no Grad-CAM; its numbers and pictures are those of `Beside`.
    """

    model: str
    task: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    about: tuple[str, ...]
    images: int
    answers: tuple[Answers, ...]
    aligned: Aligned
    attention: tuple[Attention, ...]
    contests: tuple[Contest, ...]
    looked: Beside
    pictures: tuple[Picture, ...]

    def sentences(self) -> list[str]:
        """All findings in words."""
        from lessen.inspect.closeness import words

        return [s for part in words.PARTS for s in part(self)]

    def json(self) -> dict[str, Any]:
        """All numbers, for programs; those of Grad-CAM are with the models side by side."""
        found = {name: value for name, value in vars(self).items() if name not in ("looked", "pictures")}
        return plain(found) | {"sentences": self.sentences()}


@dataclass(frozen=True)
class _Plain:
    fields: dict[str, Any]


def plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Values within values as JSON has them."""
    return finite(_named(asdict(_Plain(fields))["fields"]))


def _named(value: Any) -> Any:
    """Named tuples as what they name."""
    if hasattr(value, "_asdict"):
        return {name: _named(v) for name, v in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _named(v) for name, v in value.items()}
    return [_named(v) for v in value] if isinstance(value, list | tuple) else value


def close(
    looked: Beside, shown: Sequence[Shown], task: Task, *, images: int | None = None, seed: int = 0,
    progress: Callable[[float, str], None] = silent,
) -> Close:  # fmt: skip
    """How close models are to the first of `shown`, on the images on which `looked` has them side by side.

    Errors: BadField for fewer than 20 images.
    """
    from lessen.inspect import side_by_side
    from lessen.inspect.closeness import answers, contests, features
    from lessen.inspect.subjects import positions, private, samples

    count = side_by_side.IMAGES if images is None else images
    check(count)
    index = positions(task, count, seed, "beside")
    x, y = samples(task, index)
    check(len(y))
    models = [private(s.model, task) for s in shown]
    progress(0.0, "answers and features")
    seen = features.look(models, task.inputs, x)
    aligned = features.align(seen)
    attention, maps = features.attend(seen, seed)
    return Close(
        looked.model, looked.task, looked.classes, looked.names, looked.about, len(y),
        answers.answers(seen.logits, y), aligned, attention,
        contests.contests(seen.logits, looked.views, attention), looked,
        features.pictures(x, y, index.tolist(), maps, seed),
    )  # fmt: skip


def check(images: int | None) -> None:
    """Errors: BadField."""
    if images is not None and images < FEWEST:
        raise BadField(f"images = {images} must be at least {FEWEST}: fewer tell no likeness of features from chance")
