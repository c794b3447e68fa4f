"""Teaching: in every step, models that are trained already show a student what they see in the same batch.

A lesson is a loss of what both sides show. Hinton et al. 2015, arXiv:1503.02531; layers as well since FitNets
(Romero et al. 2015, arXiv:1412.6550).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lessen.core.errors import Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.ops import checkpoints, layers, losses, train
from lessen.ops.modes import evaluating
from lessen.ops.watching import Place, first_view, watching

KEPT = 2**30  # most bytes of what teachers show of all training samples that are kept
CHUNK = 512  # samples a pass when they are


class View(NamedTuple):
    """What a model shows of a batch: logits (n, classes), and the outputs (n, ...) of the layers asked for."""

    logits: Tensor
    features: tuple[Tensor, ...] = ()


class Together(nn.Module):
    """Several nets as one: its logits, softened at this temperature, give the mean of theirs."""

    def __init__(self, nets: Iterable[nn.Module], temperature: float) -> None:
        super().__init__()
        self.nets, self.temperature = nn.ModuleList(nets), temperature

    def forward(self, x: Tensor) -> Tensor:
        return losses.together(torch.stack([net(x) for net in self.nets]), self.temperature)


Spot = str | Place  # a layer's path for its output, or ("in", path) for what it reads first
Lesson = Callable[[View, tuple[View, ...], train.Batch, nn.Module], Tensor]


class Taught(nn.Module):
    """A student and what only its training needs, such as adapters and memories; it answers as the student.

    `aids` stand first, so that the optimizer finds the student's head in its place. A checkpoint keeps their state.
    """

    def __init__(self, student: nn.Module, aids: nn.Module) -> None:
        super().__init__()
        self.aids = aids
        self.student = student
        self.training = student.training

    def forward(self, x: Tensor) -> Tensor:
        return self.student(x)


def teach(
    model: nn.Module,
    teachers: Mapping[str, nn.Module],
    task: Task,
    plan: train.Plan,
    run: Run,
    lesson: Lesson,
    *,
    paths: tuple[Spot, ...] = (),
    teacher_paths: tuple[Spot, ...] = (),
    aids: nn.Module | None = None,
) -> nn.Module:
    """Train the model in place on `lesson(student, teachers, batch, aids)`; the aids are trained with it, and left out.

    teachers: by name; they are private, in evaluation mode, and see the same augmented batch under inference mode.
    Where nothing is augmented, each sample is shown to them once, if what they show of all fits in 1 GiB.
    paths, teacher_paths: layers whose outputs (or inputs) a View's features are, in that order.
    Errors: those of `train.fit`.
    """
    for name, teacher in teachers.items():
        train.check_sizes(teacher, task, plan, f"the teacher {name}")
    student = layers.own(model)
    aids = (aids or nn.Module()).to(next(student.parameters()).device)
    shown = _Shown(teachers, teacher_paths, task, plan)
    taught = Taught(student, aids) if any(True for _ in aids.state_dict()) else student

    def loss(module: nn.Module, batch: train.Batch) -> Tensor:
        told = shown(batch)  # first: what the student keeps for its gradient would be in the way
        with seen(student, paths) as features:
            logits = module(batch.x)
        return lesson(View(logits, tuple(features[path].float() for path in paths)), told, batch, aids)

    known = checkpoints.weights_digest(*teachers.values()) if run.checkpoint else ""
    loss.__qualname__ = f"teach:{getattr(lesson, '__qualname__', 'lesson')}:{known}"  # names the checkpoint
    before = task.evaluate(student, "validation")
    scores = {name: task.evaluate(teacher, "validation") for name, teacher in teachers.items()}
    run.details["teachers"] = [{"name": name, "validation": score} for name, score in scores.items()]
    train.fit(taught, task, plan, run, loss=loss)
    after = run.history[-1].score if run.history else before
    run.notes.extend(warnings(scores, before, after))
    return student


def warnings(teachers: Mapping[str, float | None], before: float | None, after: float | None) -> list[str]:
    """A line for each teacher whose score is below its student's, before or after the lessons."""
    found = []
    for name, score in teachers.items():
        for when, own in (("before it was taught", before), ("after it was taught", after)):
            if score is not None and own is not None and score < own:
                found.append(
                    f"the teacher {name} scores {100 * score:.1f} % on validation, its student {when} {100 * own:.1f} %"
                )
                break
    return found


@contextmanager
def seen(model: nn.Module, paths: Iterable[Spot]) -> Iterator[dict[Spot, Tensor]]:
    """Outputs, or inputs, of these layers, filled while the model runs; of a layer that runs twice, the last."""
    found: dict[Spot, Tensor] = {}
    spots: dict[Place, Spot] = {("out", path) if isinstance(path, str) else path: path for path in paths}

    def keep(place: Place, value: Any) -> None:
        found[spots[place]] = value[0] if place[0] == "in" else value

    with watching(model, spots, keep):
        yield found


def view(model: nn.Module, x: Tensor, paths: tuple[Spot, ...] = ()) -> View:
    """What a model in evaluation mode shows of inputs x; tensors that a gradient of others may pass by."""
    with torch.inference_mode(), seen(model, paths) as features:
        logits = model(x)
    return View(_kept(logits), tuple(_kept(first_view(features[path], len(x))) for path in paths))


def _kept(value: Tensor) -> Tensor:
    return value.to(torch.float32, copy=True)  # also where mixed precision computed it


class _Shown:
    """What the teachers show of a batch: computed with the step, or once for all samples."""

    def __init__(
        self, teachers: Mapping[str, nn.Module], paths: tuple[Spot, ...], task: Task, plan: train.Plan
    ) -> None:
        self.teachers = [teacher.eval() for teacher in teachers.values()]
        self.paths, self.task = paths, task
        changing = plan.augment or plan.jitter or plan.sizes
        self.once = not changing and plan.epochs > 1 and self._fits()
        self.kept: list[View] = []

    def __call__(self, batch: train.Batch) -> tuple[View, ...]:
        if not self.once:
            return tuple(view(teacher.to(batch.x.device), batch.x, self.paths) for teacher in self.teachers)
        if not self.kept:
            self.kept = [self._all(teacher.to(batch.x.device), batch.x.device) for teacher in self.teachers]
        return tuple(View(v.logits[batch.index], tuple(f[batch.index] for f in v.features)) for v in self.kept)

    def _all(self, teacher: nn.Module, device: torch.device) -> View:
        """Of every training sample, in fixed chunks, so that a resumed run sees the same numbers."""
        chunks = self.task.split("train").x.split(CHUNK)
        views = [view(teacher, self.task.inputs(x.to(device)), self.paths) for x in chunks]
        return View(
            torch.cat([v.logits for v in views]), tuple(map(torch.cat, zip(*(v.features for v in views), strict=True)))
        )

    def _fits(self) -> bool:
        train = self.task.split("train")
        one = [look(teacher, self.task, self.paths) for teacher in self.teachers]
        bytes_each = sum(t.nbytes for v in one for t in (v.logits, *v.features))
        return bytes_each * len(train) <= KEPT


def look(model: nn.Module, task: Task, paths: tuple[Spot, ...] = (), samples: int = 1) -> View:
    """What the model shows of so many calibration samples."""
    x = task.inputs(task.split("calibration").x[:samples])
    with evaluating(model):
        return view(model, x.to(next(model.parameters()).device), paths)


def refuse_misfit(technique: str, name: str, teacher: nn.Module, model: nn.Module, task: Task) -> None:
    """Errors: Refused when the teacher takes other inputs or tells other classes apart."""
    builder = getattr(teacher, "builder", None)
    shape = tuple(builder.args.get("shape", task.shape)) if builder is not None else tuple(task.shape)
    if shape != tuple(task.shape):
        raise Refused(
            f"{technique} cannot use the teacher {name}, which takes inputs of shape {shape}, for a task of "
            f"{tuple(task.shape)}; use a teacher of this task"
        )
    try:
        known = look(teacher, task).logits.shape[1]
    except (RuntimeError, ValueError) as e:
        raise Refused(
            f"{technique} cannot use the teacher {name}: it does not take inputs of shape {tuple(task.shape)} "
            f"({str(e).splitlines()[0]}); use a teacher of this task"
        ) from None
    asked = look(model, task).logits.shape[1]
    if known != asked:
        raise Refused(f"{technique} cannot teach {asked} classes by a teacher of {known}; use a teacher of this task")


def same(one: nn.Module, other: nn.Module) -> bool:
    """Whether both hold the same tensors."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(a[k].shape == b[k].shape and torch.equal(a[k], b[k]) for k in a)
