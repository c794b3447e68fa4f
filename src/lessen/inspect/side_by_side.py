"""The verb: several models beside the original - their weights, their zeros and channels, and where they look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.core.errors import BadField, Refused
from lessen.core.run import silent
from lessen.inspect.subjects import positions, private, samples
from lessen.report.families import short
from lessen.report.offline import finite

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.artifact import Artifact
    from lessen.core.task import Task
    from lessen.inspect.attention import Views
    from lessen.inspect.weights import Comparison

IMAGES = 200
MOST = 5  # models beside the original, each of which has a colour of its own
LONGEST = 24  # letters of a folder's name that still is a name


@dataclass(frozen=True)
class Shown:
    """A model under a short name; about: what was done to it. fingerprint: of the data it was trained on, if known.

    file: what is shipped of it, if anything is.
    """

    name: str
    model: nn.Module
    about: str = ""
    fingerprint: str = ""
    file: Path | None = None

    @staticmethod
    def of(artifact: Artifact, name: str = "") -> Shown:
        """An artifact's model; a path is named by its last part, or by its techniques where that is a long name."""
        known, last = artifact.manifest, Path(name or artifact.folder).resolve().name
        file = next((f for f in artifact.runnable if f.suffix == ".onnx"), None)
        named, about = last if len(last) <= LONGEST else short(known.recipe), known.recipe or "baseline"
        return Shown(named, artifact.model(), about, known.task_fingerprint, file)


@dataclass(frozen=True)
class Beside:
    """What was found. names, about: of the models, the original first. unseen: why there is no Grad-CAM, or nothing."""

    model: str
    task: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    about: tuple[str, ...]
    weights: Comparison
    views: Views | None
    unseen: str
    notes: tuple[str, ...]

    def sentences(self) -> list[str]:
        """All findings in words."""
        from lessen.inspect import remarks

        return [*remarks.weights(self), *remarks.attention(self), *self.notes]

    def json(self) -> dict[str, Any]:
        """All numbers, for programs."""
        found = asdict(self)
        found["weights"]["sparsity_by_kind"] = self.weights.kinds()
        if self.views is not None:
            views = found["views"]
            views["control"] = {name: e._asdict() for name, e in self.views.control.items()}
            for shown, like in zip(views["likeness"], self.views.likeness, strict=True):
                shown |= {name: getattr(like, name)._asdict() for name in ("agreement", "kl", "js", "cosine", "ssim")}
            for picture in views["pictures"]:
                del picture["image"], picture["maps"]
        return finite(found | {"sentences": self.sentences()})


def beside(
    shown: Sequence[Shown], task: Task, *, at: str = "", images: int | None = None, seed: int = 0,
    progress: Callable[[float, str], None] = silent,
) -> Beside:  # fmt: skip
    """Compare models with the first of them, the original; they stay as they are.

    at: the layer of Grad-CAM; by default the deepest of the original that gives maps of at least 8 x 8, and where the
    original has none, Grad-CAM is left out. images: of validation, 200 when left out, drawn by `seed`.

    Errors: BadField, BadData for a task without validation images, Refused for models that answer another question.
    """
    from lessen.inspect import attention, weights

    images = IMAGES if images is None else images
    check(len(shown) - 1, images)
    names = distinct([s.name for s in shown])
    index = positions(task, images, seed, "beside")
    x, y = samples(task, index)
    models = [private(s.model, task) for s in shown]
    same_question(models, names, task, x)
    views, unseen = None, ""
    try:
        views = attention.views(models, names, task.inputs, x, y, index.tolist(), at=at, seed=seed, progress=progress)
    except Refused as e:
        if at:
            raise
        unseen = str(e)
    progress(1.0, "weights")
    found = weights.compare(models)
    strange = [n for n, s in zip(names, shown, strict=True) if s.fingerprint not in ("", task.fingerprint)]
    notes = [f"{name} was made on other data or another split; it may have seen these images." for name in strange]
    return Beside(
        str(getattr(shown[0].model, "builder", type(shown[0].model).__name__)), task.text, tuple(task.classes),
        tuple(names), tuple(s.about for s in shown), found, views, unseen,
        (*weights.notes(names, found), *notes),
    )  # fmt: skip


def check(others: int, images: int) -> None:
    """Before anything is computed. Errors: BadField."""
    if not 1 <= others <= MOST:
        raise BadField(f"{others} models beside the original; give 1 to {MOST}")
    if images < 2:
        raise BadField(f"images = {images} must be at least 2: a map is compared with that of another image")


def distinct(names: Sequence[str]) -> list[str]:
    """Equal names get a number."""
    found: list[str] = []
    for name in names:
        n, free = 2, name
        while free in found:
            n, free = n + 1, f"{name} ({n})"
        found.append(free)
    return found


def same_question(models: Sequence[nn.Module], names: Sequence[str], task: Task, x: Tensor) -> None:
    """Every model takes the task's samples and answers with its classes."""
    import torch

    expected = (1, len(task.classes))
    for model, name in zip(models, names, strict=True):
        device = next((p.device for p in model.parameters()), x.device)
        try:
            with torch.no_grad():
                got: Any = tuple(model(task.inputs(x[:1].to(device))).shape)
        except Exception as e:  # whatever a forward raises on a shape that it was not built for
            got = " ".join(str(e).split())[:120]
        if got != expected:
            raise Refused(
                f"{name} does not answer {task.text}, whose samples are {task.shape} of {len(task.classes)} classes "
                f"(for one sample it gives: {got}); compare models of one task"
            )
