"""What a student is taught by, as pure functions of tensors."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def soft_targets(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)), the mean over samples; logits (n, classes).

    The factor keeps the gradient's size as T grows. Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    student = F.log_softmax(student_logits.float() / temperature, 1)
    teacher = F.log_softmax(teacher_logits.float() / temperature, 1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
