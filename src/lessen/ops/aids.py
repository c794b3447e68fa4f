"""Modules that teaching by layers trains beside the student and leaves behind: adapters, and memories to contrast."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lessen.ops import feature_losses


def adapter(inn: int, out: int, rectified: bool) -> nn.Module:
    """(n, inn, h, w) -> (n, out, h, w): a 1x1 convolution, for tokens and vectors the same as a Linear, then batch
    norm, and a ReLU where the teacher's layer gives nothing below zero; nothing where the widths are equal.

    RepDistiller's regressor (Romero et al. 2015, arXiv:1412.6550): without batch norm weight 100 diverges.
    """
    if inn == out:
        return nn.Identity()
    parts: list[nn.Module] = [nn.Conv2d(inn, out, 1, bias=False), nn.BatchNorm2d(out)]
    nn.init.kaiming_normal_(parts[0].weight, nonlinearity="linear")  # type: ignore[arg-type]
    return nn.Sequential(*parts, nn.ReLU()) if rectified else nn.Sequential(*parts)


class Contrast(nn.Module):
    """Student's and teacher's features embedded side by side, and a memory of what every training sample was last.

    Each side's embedding is compared with the other side's memory of the same sample and of `negatives` samples of
    other classes (Tian et al. 2020, arXiv:1910.10699; the memory: Wu et al. 2018, arXiv:1805.01978).
    """

    order: Tensor
    starts: Tensor
    labels: Tensor
    memory_student: Tensor
    memory_teacher: Tensor
    z_student: Tensor
    z_teacher: Tensor

    def __init__(
        self, widths: tuple[int, int], labels: Tensor, *, dim: int, negatives: int, tau: float, keep: float
    ) -> None:
        """widths: channels of student and teacher; labels: classes (N,) of the train split; keep: share of the old in a
        memory that is renewed."""
        super().__init__()
        self.student, self.teacher = nn.Linear(widths[0], dim), nn.Linear(widths[1], dim)
        self.negatives, self.tau, self.keep = negatives, tau, keep
        for side in ("student", "teacher"):
            self.register_buffer(f"memory_{side}", F.normalize(torch.rand(len(labels), dim) * 2 - 1, dim=1))
            self.register_buffer(f"z_{side}", torch.zeros(()))  # 0 until the first batch has been seen
        starts = F.pad(torch.bincount(labels).cumsum(0), (1, 0))
        for name, value in (("labels", labels), ("order", labels.argsort(stable=True)), ("starts", starts)):
            self.register_buffer(name, value, persistent=False)

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor) -> Tensor:
        """The loss of both sides for features (n, channels) of the samples at `index`; the memories then move on."""
        ours = F.normalize(self.student(student).float(), dim=1)
        theirs = F.normalize(self.teacher(teacher).float(), dim=1)
        drawn = feature_losses.unlike(self.labels[index], self.order, self.starts, self.negatives)
        candidates = torch.cat([index[:, None], drawn], 1)
        loss = self._side(ours, self.memory_teacher, self.z_student, candidates)
        loss = loss + self._side(theirs, self.memory_student, self.z_teacher, candidates)
        self.memory_student = self._moved(self.memory_student, ours, index)
        self.memory_teacher = self._moved(self.memory_teacher, theirs, index)
        return loss

    def _side(self, embedded: Tensor, memory: Tensor, z: Tensor, candidates: Tensor) -> Tensor:
        scores = (
            (embedded @ memory.T).float().div(self.tau).gather(1, candidates)
        )  # all, then 1 + k: rows of memory are larger
        with torch.no_grad():
            z.copy_(torch.where(z > 0, z, scores.exp().mean() * len(memory)))
        likelihoods = scores - z.log()
        return feature_losses.contrast(likelihoods[:, 0], likelihoods[:, 1:], math.log(self.negatives / len(memory)))

    @torch.no_grad()
    def _moved(self, memory: Tensor, embedded: Tensor, index: Tensor) -> Tensor:
        """A new tensor, because the loss's gradient still needs the old one."""
        rows = self.keep * memory[index] + (1 - self.keep) * embedded.detach()
        return memory.index_copy(0, index, F.normalize(rows, dim=1))
