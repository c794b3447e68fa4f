"""What a student is taught by, as pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def softened_entropy(logits: Tensor, temperature: float) -> Tensor:
    """Entropy of softmax(logits / T) in nats, (n,); ln(classes) says nothing more than that all are equal."""
    shares = F.log_softmax(logits.float() / temperature, 1)
    return -(shares.exp() * shares).sum(1)


def soft_targets(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), the mean over samples; logits (n, classes).

    The factor keeps the gradient's size as T grows. Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    student = F.log_softmax(student_logits.float() / temperature, 1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, 1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def standardized(logits: Tensor) -> Tensor:
    """Each sample's logits (n, classes) less their mean, over their standard deviation (of classes - 1).

    So a small student need not reach its teacher's spread of logits. Sun et al. 2024, arXiv:2403.01549, algorithm 1.
    """
    logits = logits.float()
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def together(logits: Tensor, temperature: float) -> Tensor:
    """Logits (n, classes) whose shares at T are the mean of several nets' shares at T; logits (nets, n, classes).

    Hinton et al. 2015, arXiv:1503.02531, section 2: an arithmetic mean of the members' predictions.
    """
    shares = F.log_softmax(logits.float() / temperature, 2)
    return temperature * (shares.logsumexp(0) - torch.tensor(float(len(logits))).log())


def decoupled(student_logits: Tensor, teacher_logits: Tensor, y: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Two halves of `soft_targets`, each T^2 * KL(teacher || student), the mean over samples; logits (n, classes).

    The first is of the true class against all others (two shares), the second of the others among themselves. With
    the teacher's share p of the true class, soft_targets = first + (1 - p) * second, for each sample.
    y: (n,) classes, or (n, classes) shares, of which the largest counts. Zhao et al. 2022, arXiv:2203.08679, eq. 7.
    """
    y = y if y.dim() == 1 else y.argmax(1)
    true = F.one_hot(y, student_logits.shape[1]).bool()
    halves: list[tuple[Tensor, Tensor]] = []
    for logits in (student_logits, teacher_logits):
        shares = F.log_softmax(logits.float() / temperature, 1)
        others = shares[~true].view(len(y), -1)
        rest = others.logsumexp(1, keepdim=True)
        halves.append((torch.cat([shares[true][:, None], rest], 1), others - rest))
    (binary, among), (binary_taught, among_taught) = halves
    target = F.kl_div(binary, binary_taught, reduction="batchmean", log_target=True)
    other = F.kl_div(among, among_taught, reduction="batchmean", log_target=True)
    return target * temperature**2, other * temperature**2
