"""Nets that teach one another in turn: the model the first, each the one behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from lessen.core.record import Epoch
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.models import pristine
from lessen.ops import layers, similarity, teaching, train
from lessen.ops.answering import answers
from lessen.ops.training_plan import mix_seeds

if TYPE_CHECKING:
    from torch import Tensor, nn


def taught_in_turn(
    texts: Sequence[str], model: nn.Module, task: Task, run: Run, plan: train.Plan, lesson: teaching.Lesson
) -> tuple[list[nn.Module], list[list[Epoch]]]:
    """Fresh nets of these builders' texts, each trained on `lesson` by the one before it, the first by the model.

    Returns them with their histories. Their weights follow from torch's current seed; each has a checkpoint folder of
    its own. The run gets `details["stages"]`: parameters, validation score, and how near each is to both its own
    teacher and the model. Errors: those of building and of training.
    """
    seed, device = torch.initial_seed(), next(model.parameters()).device
    name, teacher = pristine.text(model) or type(model).__name__, task.copy(model).eval()
    x = task.split("validation").x
    first, stages = answers(model, task, x), run.details.setdefault("stages", [])
    nets: list[nn.Module] = []
    histories: list[list[Epoch]] = []
    taught_by = first
    for i, text in enumerate(texts):
        part = run.part(f"stage-{i + 1}", i, len(texts))
        with task.seeded(mix_seeds(seed, i)):
            net = layers.own(task.build(text)).to(device)
            net = teaching.teach(net, {name: teacher}, task, plan, part, lesson)
        own = answers(net, task, x)
        stages.append({
            "model": text, "parameters": task.cost(net).parameters, "validation": task.evaluate(net, "validation"),
            "teacher": name, "to_teacher": nearness(own, taught_by), "to_first": nearness(own, first),
        })  # fmt: skip
        run.notes += [f"stage {i + 1}: {note}" for note in part.notes]
        run.details.setdefault("teachers", part.details["teachers"])
        nets.append(net if model.training else net.eval())
        histories.append(part.history)
        name, teacher, taught_by = f"{text} of stage {i + 1}", task.copy(net).eval(), own
    return nets, histories


def nearness(logits: Tensor, teacher: Tensor) -> dict[str, float] | None:
    """Share of samples with the teacher's answer, and the mean of KL(teacher || student) in nats; None of no samples.

    Logits (n, classes), both at temperature 1.
    """
    if not len(logits):
        return None
    agreement = (logits.argmax(1) == teacher.argmax(1)).float().mean().item()
    return {"agreement": agreement, "kl": similarity.kl(teacher, logits).mean().item()}
