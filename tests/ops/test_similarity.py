"""Likeness of maps and of predictions against numbers worked by hand, and SSIM against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lessen.ops import bootstrap, similarity


def test_cosine_by_hand():
    a = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]]])
    b = torch.tensor([[[4.0, 3.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]], [[2.0, 4.0], [6.0, 8.0]]])
    assert similarity.cosine(a, b).tolist() == pytest.approx([24 / 25, 0.0, 1.0])


def test_cosine_with_a_map_of_zeros_is_unknown():
    assert similarity.cosine(torch.zeros(1, 2, 2), torch.ones(1, 2, 2)).isnan().all()


def looped(a: np.ndarray, b: np.ndarray, side: int) -> float:
    """SSIM of two maps, window by window, as Wang et al. write it."""
    offset = np.arange(side) - side // 2
    w = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    w /= w.sum()
    found = []
    for i in range(len(a) - side + 1):
        for j in range(a.shape[1] - side + 1):
            x, y = a[i : i + side, j : j + side], b[i : i + side, j : j + side]
            mx, my = (w * x).sum(), (w * y).sum()
            vx, vy, vxy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum(), (w * (x - mx) * (y - my)).sum()
            c1, c2 = 0.01**2, 0.03**2
            found.append((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return float(np.mean(found))


@pytest.mark.parametrize(("shape", "side"), [((14, 17), 11), ((11, 11), 11), ((8, 9), 7), ((7, 12), 7)])
def test_ssim_is_that_of_plain_loops(shape, side):
    g = np.random.default_rng(0)
    a, b = g.random((2, *shape)), g.random((2, *shape))
    b[1] = 0.8 * a[1] + 0.2 * b[1]
    got = similarity.ssim(torch.from_numpy(a), torch.from_numpy(b))
    assert got.tolist() == pytest.approx([looped(x, y, side) for x, y in zip(a, b, strict=True)], abs=1e-6)
    assert got[1] > got[0]


def test_ssim_of_flat_maps_is_their_luminance_alone():
    a, b = torch.full((1, 12, 12), 0.2), torch.full((1, 12, 12), 0.6)
    c1 = 1e-4
    assert similarity.ssim(a, b).item() == pytest.approx((2 * 0.12 + c1) / (0.04 + 0.36 + c1), abs=1e-6)
    assert similarity.ssim(a, a).item() == pytest.approx(1)


def test_ssim_knows_the_range():
    g = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 1, 16, 16, generator=g)
    assert similarity.ssim(255 * a, 255 * b, span=255).item() == pytest.approx(similarity.ssim(a, b).item(), abs=1e-6)


def test_unit_divides_by_the_largest_and_leaves_zeros():
    maps = torch.stack([torch.tensor([[1.0, 4.0], [0.0, 2.0]]), torch.zeros(2, 2)])
    assert similarity.unit(maps).tolist() == [[[0.25, 1.0], [0.0, 0.5]], [[0.0, 0.0], [0.0, 0.0]]]


def test_divergences_by_hand():
    """P = (1/2, 1/2), Q = (1/4, 3/4), middle (3/8, 5/8)."""
    p, q = torch.tensor([[0.0, 0.0]]), torch.log(torch.tensor([[0.25, 0.75]]))
    assert similarity.kl(p, q).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    by_hand = 0.5 * (0.5 * math.log(4 / 3) + 0.5 * math.log(4 / 5)) + 0.5 * (
        0.25 * math.log(2 / 3) + 0.75 * math.log(6 / 5)
    )
    assert similarity.js(p, q).item() == pytest.approx(by_hand, rel=1e-5)
    assert similarity.js(p, q).item() == pytest.approx(similarity.js(q, p).item())
    assert similarity.kl(p, p + 7).item() == pytest.approx(0, abs=1e-7)  # logits, not probabilities


def test_jensen_shannon_is_at_most_ln_2():
    sure, other = torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 200.0]])
    assert similarity.js(sure, other).item() == pytest.approx(math.log(2), rel=1e-6)


def test_a_means_interval():
    """Of n values with standard deviation s it is about mean +- 1.96 s / sqrt(n)."""
    values = torch.randn(400, generator=torch.Generator().manual_seed(1))
    found = bootstrap.mean(values)
    half = 1.96 * float(values.std(correction=0)) / 20
    assert found.mean == pytest.approx(float(values.double().mean()))
    assert (found.mean - found.low, found.high - found.mean) == pytest.approx((half, half), rel=0.05)
    assert found == bootstrap.mean(values) and found.n == 400


def test_a_mean_of_one_value_and_of_none():
    one, none = bootstrap.mean(torch.tensor([0.5, torch.nan])), bootstrap.mean(torch.tensor([torch.nan]))
    assert (one.mean, one.n) == (0.5, 1) and math.isnan(one.low)
    assert none.n == 0 and math.isnan(none.mean)
