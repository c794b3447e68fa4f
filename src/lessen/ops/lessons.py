"""Lessons ready for `teaching.teach`: of logits alone, and of layers beside them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lessen.core.task import Task
from lessen.ops import losses
from lessen.ops.teaching import CHUNK, Lesson, View, view
from lessen.ops.training_plan import Batch


def shares_and_labels(
    task: Task,
    temperature: float,
    alpha: float,
    *,
    total: float = 1.0,
    standardize: bool = False,
    smoothing: float = 0.0,
) -> Lesson:
    """total * (alpha * T^2 KL(teacher || student at T) + (1 - alpha) * the labels' loss), of the first teacher.

    standardize: the soft term compares z-scores of logits. Hinton et al. 2015, arXiv:1503.02531; Sun et al. 2024,
    arXiv:2403.01549, whose weights 9 and 1 are alpha = 0.9 of a total of 10.
    """

    def lesson(student: View, teachers: tuple[View, ...], batch: Batch, aids: nn.Module) -> Tensor:
        own, taught = student.logits, teachers[0].logits
        if standardize:
            own, taught = losses.standardized(own), losses.standardized(taught)
        soft = losses.soft_targets(own, taught, temperature)
        return total * (alpha * soft + (1 - alpha) * task.loss(student.logits, batch.y, smoothing))

    return lesson


def decoupled_and_labels(
    task: Task,
    temperature: float,
    alpha: float,
    beta: float,
    *,
    hard: float = 1.0,
    rise: float = 0.0,
    standardize: bool = False,
    smoothing: float = 0.0,
) -> Lesson:
    """hard * the labels' loss + w * (alpha * target term + beta * term of the others), of the first teacher.

    rise: epochs in which w goes from 0 to 1 in a line. Zhao et al. 2022, arXiv:2203.08679.
    """

    def lesson(student: View, teachers: tuple[View, ...], batch: Batch, aids: nn.Module) -> Tensor:
        own, taught = student.logits, teachers[0].logits
        if standardize:
            own, taught = losses.standardized(own), losses.standardized(taught)
        target, others = losses.decoupled(own, taught, batch.y, temperature)
        risen = min(1.0, batch.epoch / rise) if rise else 1.0
        labels = task.loss(student.logits, batch.y, smoothing)
        return hard * labels + risen * (alpha * target + beta * others)

    return lesson


def layers_and_labels(
    task: Task,
    own: Callable[[View, View, Batch, nn.Module], Tensor],
    weights: tuple[float, float, float],
    temperature: float,
    *,
    smoothing: float = 0.0,
) -> Lesson:
    """hard * the labels' loss + soft * T^2 KL + weight * own(student, first teacher, batch, aids).

    weights: (hard, soft, weight), RepDistiller's gamma, alpha and beta (Tian et al. 2020, arXiv:1910.10699, section 4).
    """
    hard, soft, weight = weights

    def lesson(student: View, teachers: tuple[View, ...], batch: Batch, aids: nn.Module) -> Tensor:
        labels = task.loss(student.logits, batch.y, smoothing)
        total = hard * labels + weight * own(student, teachers[0], batch, aids)
        return total + soft * losses.soft_targets(student.logits, teachers[0].logits, temperature) if soft else total

    return lesson


def entropy(teacher: nn.Module, task: Task, temperature: float, *, standardize: bool = False) -> float:
    """Mean entropy of a teacher's softened shares on calibration samples, in nats: what there is to learn beside the
    answer, from 0 (nothing) to ln(classes) (nothing, too: all are alike)."""
    x = task.split("calibration").x
    device = next(teacher.parameters()).device
    logits = torch.cat([view(teacher, task.inputs(part.to(device))).logits for part in x.split(CHUNK)])
    return losses.softened_entropy(losses.standardized(logits) if standardize else logits, temperature).mean().item()
