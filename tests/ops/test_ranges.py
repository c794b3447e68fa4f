"""Range rules against numbers worked by hand, brute force over all ranges, and torchao's primitives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchao.quantization.quant_primitives import (
    MappingType,
    choose_qparams_affine,
    dequantize_affine,
    quantize_affine,
)

from lessen.ops import quantization as q
from lessen.ops import ranges


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- rows


def test_minmax_by_hand() -> None:
    rows = torch.tensor([[1.27, -0.5], [-2.54, 0.1], [0.0, 0.0]])  # the last row is dead
    scale, zero = ranges.affine(rows, 8)
    torch.testing.assert_close(scale, torch.tensor([0.01, 0.02, 1.0]))
    assert zero is None
    scale, zero = ranges.affine(torch.tensor([[-0.5, 1.0], [0.0, 0.0], [0.2, 3.0]]), 4, symmetric=False)
    assert zero is not None
    torch.testing.assert_close(scale, torch.tensor([0.1, 1.0, 0.2]))  # 1.5 / 15; dead; zero is always covered
    assert zero.tolist() == [5.0, 0.0, 0.0]


def test_percentile_by_hand() -> None:
    rows = torch.arange(1.0, 101.0).reshape(1, -1)
    assert ranges.affine(rows, 8, rule="percentile", share=0.98)[0].item() == pytest.approx(98 / 127)
    both = torch.cat([rows, -rows], 1)  # 200 values; 2 % are two at each end
    scale, zero = ranges.affine(both, 8, symmetric=False, rule="percentile", share=0.98)
    assert zero is not None and (scale.item(), zero.item()) == (pytest.approx(196 / 255), 128.0)
    assert torch.equal(ranges.affine(rows, 8, rule="percentile")[0], ranges.affine(rows, 8)[0])


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_mse_is_as_good_as_brute_force(bits: int, symmetric: bool) -> None:
    rows = normal(6, 300) * torch.rand(6, 1, generator=torch.Generator().manual_seed(1)) + 0.1
    rows[0, 0] = 9.0  # an outlier

    def error(scale: Tensor, zero: Tensor | None) -> Tensor:
        offset = 0.0 if zero is None else zero[:, None]
        found = q.fake_quantize(rows, scale[:, None], offset, *q.limits(bits, signed=symmetric))
        return (found - rows).square().sum(1)

    found = error(*ranges.affine(rows, bits, symmetric=symmetric, rule="mse"))
    full, zero = ranges.affine(rows, bits, symmetric=symmetric)
    least = error(full, zero)
    low, high = rows.amin(1).clamp(max=0), rows.amax(1).clamp(min=0)
    for ratio in torch.linspace(0.005, 1, 400).tolist():
        tried = (full * ratio, None) if symmetric else q.range_to_affine(low * ratio, high * ratio, bits)
        least = torch.minimum(least, error(*tried))
    # at 8 bits the error is jagged in the range: which values fall between two levels changes with every step of it
    assert (found <= (1.02 if bits < 8 else 1.1) * least).all() and (found <= error(full, zero)).all()


def test_a_normal_distribution_is_clipped_where_theory_says() -> None:
    # the optimal uniform quantizers of a unit normal with 15 and 7 levels (Max 1960): steps 0.335 and 0.586, by NumPy
    rows = normal(1, 200_000)
    assert ranges.affine(rows, 4, rule="mse")[0].item() == pytest.approx(best_step(7), rel=0.03)
    assert ranges.affine(rows, 3, rule="mse")[0].item() == pytest.approx(best_step(3), rel=0.03)


def best_step(top: int) -> float:
    """The step of the uniform quantizer -top..top with the least error under a unit normal, by integration."""
    x = torch.linspace(-6, 6, 24_001, dtype=torch.float64)
    density = torch.exp(-x.square() / 2)
    steps = torch.linspace(0.1, 1.5, 1401, dtype=torch.float64)
    errors = torch.stack([((torch.clamp((x / s).round(), -top, top) * s - x).square() * density).sum() for s in steps])
    return steps[errors.argmin()].item()


def test_kl_cuts_a_far_tail_and_keeps_what_fills_its_range() -> None:
    inner = normal(1, 20_000).clamp(-3, 3)
    far = torch.cat([inner, torch.tensor([[60.0]])], 1)
    assert ranges.affine(far, 8, rule="kl")[0].item() * 127 < 10
    flat = torch.linspace(-1, 1, 20_001).reshape(1, -1)
    assert ranges.affine(flat, 8, rule="kl")[0].item() * 127 > 0.9


def test_the_divergence_is_zero_only_where_the_levels_tell_all() -> None:
    counts = torch.zeros(64)
    counts[:8] = torch.tensor([8.0, 7, 6, 5, 4, 3, 2, 1])
    assert ranges.entropy_threshold(counts, 8) == 8 / 64  # eight levels for eight bins, and nothing outside
    assert ranges.entropy_threshold(torch.zeros(64), 8) == 1.0
    assert ranges.entropy_threshold(counts, 64) == 1.0


def test_few_levels_do_not_keep_a_spike_near_zero_alone() -> None:
    gelu = torch.nn.functional.gelu(normal(1, 50_000) * (2 + 4 * normal(1, 50_000, seed=1).abs().clamp(max=1)))
    histogram = ranges.Histogram.empty(float(gelu.min()), float(gelu.max()))
    histogram.add(gelu)
    assert histogram.span("kl", 3)[1] > histogram.high / 5  # half of all values lie between -0.17 and 0


# --- against torchao: the same scales and the same integers


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [0, 16, 48])
@pytest.mark.parametrize("symmetric", [True, False])
def test_scales_and_integers_are_torchaos(bits: int, group: int, symmetric: bool) -> None:
    weight = normal(5, 48) + 0.2
    rows = weight.reshape(-1, group) if group else weight
    block = (1, group or 48)
    low, high = q.limits(bits, signed=symmetric)
    kind = MappingType.SYMMETRIC_NO_CLIPPING_ERR if symmetric else MappingType.ASYMMETRIC
    dtype = torch.int8 if symmetric else torch.uint8
    scale, zero = ranges.affine(rows, bits, symmetric=symmetric)
    their_scale, their_zero = choose_qparams_affine(weight, kind, block, dtype, low, high, zero_point_dtype=torch.int32)
    torch.testing.assert_close(scale, their_scale.flatten(), rtol=1e-6, atol=0)
    if zero is not None:
        assert torch.equal(zero, their_zero.flatten().float())
    offset = 0.0 if zero is None else zero[:, None]
    ours = q.quantize(rows, scale[:, None], offset, low, high).reshape(5, 48)
    theirs = quantize_affine(weight, block, their_scale, their_zero, dtype, low, high)
    assert (ours == theirs.float()).float().mean() > 0.995  # they divide by multiplying: ties may turn
    assert (ours - theirs.float()).abs().max() <= 1
    back = dequantize_affine(theirs, block, their_scale, their_zero, dtype, low, high)
    fake = q.fake_quantize(rows, scale[:, None], offset, low, high).reshape(5, 48)
    assert (fake - back).abs().max() <= 1.001 * scale.max()
    torch.testing.assert_close(fake[ours == theirs.float()], back[ours == theirs.float()], rtol=1e-5, atol=1e-6)


# --- histograms


def test_a_histogram_counts_what_is_not_zero() -> None:
    histogram = ranges.Histogram.empty(-1.0, 3.0)
    histogram.add(torch.tensor([0.0, 0.0, -1.0, 2.999, 1.0]))
    assert histogram.counts.sum() == 3 and histogram.counts[0] == 1 and histogram.counts[-1] == 1
    assert histogram.centers()[0].item() == pytest.approx(-1 + 4 / ranges.BINS / 2)
    flat = ranges.Histogram.empty(0.0, 0.0)
    flat.add(torch.zeros(5))
    assert [float(v) for v in flat.span("mse", 8)] == [0.0, 0.0]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("positive", [True, False])
def test_the_span_of_least_error_beats_the_whole_range(bits: int, positive: bool) -> None:
    x = normal(100_000).abs() if positive else normal(100_000) + 0.3
    x[0] = 12.0
    histogram = ranges.Histogram.empty(min(0.0, float(x.min())), float(x.max()))
    histogram.add(x)

    def error(low: Tensor, high: Tensor) -> float:
        scale, zero = q.range_to_affine(low, high, bits)
        return float((q.fake_quantize(x, scale, zero, 0, 2**bits - 1) - x).square().mean())

    best = min(
        error(x.min().clamp(max=0) * a, x.max() * b)
        for a in torch.linspace(0.1, 1, 10).tolist() for b in torch.linspace(0.1, 1, 46).tolist()
    )  # fmt: skip
    assert error(*histogram.span("mse", bits)) <= 1.05 * best
    low, high = histogram.span("kl", bits)
    assert high < 12 and (low == 0) == positive and math.isfinite(error(low, high))
