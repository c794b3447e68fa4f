"""Adapters fit widths; the memory holds what every sample was last, and the loss is the paper's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lessen.ops import aids, feature_losses


def test_an_adapter_is_a_projection_or_nothing() -> None:
    assert isinstance(aids.adapter(4, 4, True), nn.Identity)
    fit = aids.adapter(3, 5, False)
    x = torch.randn(2, 3, 4, 4)
    assert fit(x).shape == (2, 5, 4, 4) and (fit(x) < 0).any()
    assert (aids.adapter(3, 5, True)(x) >= 0).all()
    tokens = torch.randn(2, 4, 3)
    linear = F.linear(tokens, fit[0].weight[:, :, 0, 0])  # type: ignore[index]
    torch.testing.assert_close(fit[0](feature_losses.as_maps(tokens)), feature_losses.as_maps(linear))  # type: ignore[index]


@pytest.fixture
def contrast() -> aids.Contrast:
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 1, 1])
    return aids.Contrast((3, 5), labels, dim=4, negatives=6, tau=0.5, keep=0.75)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_the_loss_and_the_memory_agree_with_numpy(contrast: aids.Contrast, monkeypatch: pytest.MonkeyPatch) -> None:
    index = torch.tensor([6, 2])
    drawn = torch.tensor([[0, 2, 3, 5, 5, 0], [0, 1, 3, 4, 6, 7]])
    monkeypatch.setattr(feature_losses, "unlike", lambda *args: drawn)
    ours, theirs = torch.randn(2, 3), torch.randn(2, 5)
    memories = contrast.memory_student.numpy().copy(), contrast.memory_teacher.numpy().copy()
    assert np.allclose([np.linalg.norm(m, axis=1) for m in memories], 1, atol=1e-6)
    with torch.no_grad():
        a, b = unit(contrast.student(ours).numpy()), unit(contrast.teacher(theirs).numpy())
    candidates = torch.cat([index[:, None], drawn], 1).numpy()
    expected, z = 0.0, []
    for embedded, memory in ((a, memories[1]), (b, memories[0])):
        e = np.exp(np.einsum("nd,nkd->nk", embedded, memory[candidates]) / 0.5)
        z.append(e.mean() * 8)
        p, c = e / z[-1], 6 / 8
        expected -= (np.log(p[:, 0] / (p[:, 0] + c)).sum() + np.log(c / (p[:, 1:] + c)).sum()) / 2
    loss = contrast(ours, theirs, index)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert (contrast.z_student.item(), contrast.z_teacher.item()) == pytest.approx(tuple(z), rel=1e-5)
    for moved, memory, embedded in (
        (contrast.memory_student, memories[0], a),
        (contrast.memory_teacher, memories[1], b),
    ):
        memory[index] = unit(0.75 * memory[index] + 0.25 * embedded)
        np.testing.assert_allclose(moved.numpy(), memory, atol=1e-6)
    contrast(torch.randn(2, 3) * 9, theirs, index)
    assert contrast.z_student.item() == pytest.approx(z[0], rel=1e-5)  # estimated once


def test_both_embeddings_and_the_student_get_gradients_the_memory_none(contrast: aids.Contrast) -> None:
    ours = torch.randn(3, 3, requires_grad=True)
    contrast(ours, torch.randn(3, 5), torch.tensor([0, 4, 7])).backward()
    for grad in (ours.grad, *(p.grad for p in contrast.parameters())):
        assert grad is not None and torch.isfinite(grad).all() and grad.any()
    assert not contrast.memory_student.requires_grad and not contrast.memory_teacher.requires_grad


def test_what_a_checkpoint_keeps_is_all_that_goes_on(contrast: aids.Contrast) -> None:
    contrast(torch.randn(2, 3), torch.randn(2, 5), torch.tensor([0, 1]))
    twin = aids.Contrast((3, 5), contrast.labels, dim=4, negatives=6, tau=0.5, keep=0.75)
    twin.load_state_dict(contrast.state_dict())
    ours, theirs, index = torch.randn(2, 3), torch.randn(2, 5), torch.tensor([3, 1])
    state = torch.get_rng_state()
    one = contrast(ours, theirs, index)
    torch.set_rng_state(state)
    assert torch.equal(one, twin(ours, theirs, index))
    assert torch.equal(contrast.memory_teacher, twin.memory_teacher)


def test_samples_come_to_know_their_own_place_in_the_bank() -> None:
    torch.manual_seed(0)
    n, labels = 40, torch.arange(40) % 4
    theirs = torch.randn(n, 6)
    ours = theirs @ torch.randn(6, 5) + 0.1 * torch.randn(n, 5)
    bank = aids.Contrast((5, 6), labels, dim=8, negatives=20, tau=0.1, keep=0.5)

    def known() -> float:
        """Share of samples that are nearest to themselves, of all samples of other classes."""
        with torch.no_grad():
            scores = F.normalize(bank.student(ours), dim=1) @ bank.memory_teacher.T
        alike = (labels[:, None] == labels) & ~torch.eye(n, dtype=torch.bool)
        return (scores.masked_fill(alike, -2).argmax(1) == torch.arange(n)).float().mean().item()

    before, optimizer = known(), torch.optim.SGD(bank.parameters(), lr=0.2, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        bank(ours, theirs, torch.arange(n)).backward()
        optimizer.step()
    assert before < 0.3 and known() > 0.8
