"""Tails, channels and shapes against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis as scipy_kurtosis

from lessen.analyze.ranks import Correlation, interval
from lessen.ops import outliers, spreads
from lessen.ops.distortion import Distortion, Sums


def test_kurtosis_by_hand():
    """0, 0, 0, 4: mean 1, squared deviations 1, 1, 1, 9; variance 3, fourth moment (3 + 81) / 4 = 21; 21 / 9."""
    assert outliers.kurtosis(torch.tensor([0.0, 0.0, 0.0, 4.0])) == pytest.approx(21 / 9)
    assert math.isnan(outliers.kurtosis(torch.full((5,), 2.0)))
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) + 30
    assert outliers.kurtosis(values) == pytest.approx(scipy_kurtosis(values.double().numpy(), fisher=False), rel=1e-6)


def test_the_maximum_against_the_percentile():
    values = torch.arange(1.0, 1001.0)  # of a thousand values the 999th is the 99.9th percentile
    assert outliers.peak_ratio(values) == pytest.approx(1000 / 999)
    values[-1] = -9990.0
    assert outliers.peak_ratio(values) == pytest.approx(10)
    assert math.isnan(outliers.peak_ratio(torch.zeros(5)))


def test_channels_come_last():
    images = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert torch.equal(outliers.channels_last(images)[0, :, 1], images[0, 1].flatten())
    tokens = torch.arange(24.0).reshape(2, 3, 4)
    assert torch.equal(outliers.channels_last(tokens), tokens)
    assert outliers.channels_last(torch.zeros(5, 7)).shape == (5, 1, 7)


def test_who_holds_the_maximum():
    tops = torch.tensor([[1.0, 5.0, 2.0, 0.0], [1.0, 4.0, 2.0, 0.0], [9.0, 1.0, 2.0, 0.0]])
    assert outliers.holders(tops) == (0.5, 1, pytest.approx(2 / 3))
    assert outliers.reaching(tops.amax(0)) == 0.5  # 9 and 5 of 9, 5, 2, 0


def test_parts_tell_what_the_whole_would():
    values = torch.randn(6, 10, 3, generator=torch.Generator().manual_seed(1)) ** 3
    tally = outliers.Tally(6)
    for part in values.split(4):
        tally.add(part)
    flat = values.reshape(-1, 3)
    assert (tally.count, tally.low, tally.high) == (180, float(values.min()), float(values.max()))
    assert tally.kurtosis() == pytest.approx(outliers.kurtosis(values))
    assert tally.channel_kurtosis().tolist() == pytest.approx([outliers.kurtosis(flat[:, i]) for i in range(3)])
    assert torch.equal(tally.sample(), flat) and torch.equal(torch.cat(tally.tops), values.abs().amax(1))


def test_percentiles_are_of_a_drawn_part_and_maxima_of_all(monkeypatch):
    monkeypatch.setattr(outliers, "LIMIT", 30)
    tally = outliers.Tally(10)
    values = torch.randn(10, 20, 1, generator=torch.Generator().manual_seed(2))
    for part in values.split(5):
        tally.add(part)
    assert len(tally.sample()) == 30 and tally.high == float(values.max()) and tally.count == 200


def test_what_clipping_and_logarithms_leave_by_hand():
    """Of 0 .. 15 four bits hold all 16 values; a value of 150 makes steps of 10, clipping makes them 1 again."""
    plain = torch.arange(16.0)
    assert spreads.rounded(plain, 4, rows=False)["plain"] == math.inf
    assert spreads.rounded(torch.tensor([[1.0, -2.0, 4.0]]), 4, rows=True)["log"] == math.inf
    many = torch.cat([plain.repeat(1000), torch.tensor([150.0])])
    found = spreads.rounded(many, 4, rows=False)
    signal, error = 1000 * 1240 + 150.0**2, 135.0**2
    assert found["clipped"] == pytest.approx(10 * math.log10(signal / error), abs=1e-4)
    coarse = sum((v - 10 * round(v / 10)) ** 2 for v in range(16)) * 1000
    assert found["plain"] == pytest.approx(10 * math.log10(signal / coarse), abs=1e-4)


def test_a_range_for_every_row():
    rows = torch.tensor([[7.0, -3.0, 1.0], [0.07, 0.03, -0.01]])  # both hold integers up to 7 at their own scale
    assert spreads.rounded(rows, 4, rows=True)["plain"] > 120
    assert spreads.rounded(rows.flatten(), 4, rows=False)["plain"] < 30


def test_shapes():
    values = torch.tensor([-4.0, 0.0, 0.0, 1.0, 2.0, 8.0])
    found = spreads.shapes(values, -4.0, 8.0)
    assert found["plain"].box == [-4, -4, 0, 0, 2, 8, 8] and sum(found["plain"].counts) == 4
    assert found["log"].box[0] == 0 and found["log"].box[-1] == 3
    assert (found["plain"].edges[0], found["plain"].edges[-1]) == (-4, 8)
    assert sum(spreads.shape(torch.zeros(3)).counts) == 0


def test_an_interval_of_a_rank_correlation():
    """tanh(atanh(0.5) -+ 1.96 sqrt((1 + 0.125) / 9)): 0.5493 -+ 0.6930."""
    low, high = interval(Correlation(0.5, 0.1, 12))
    assert (low, high) == pytest.approx((math.tanh(0.549306 - 0.692950), math.tanh(0.549306 + 0.692950)), abs=1e-5)
    assert all(map(math.isnan, interval(Correlation(1.0, 0.1, 4))))


def test_sums_of_parts_are_the_sum():
    x, y = np.arange(6.0), np.arange(6.0) + 0.1
    parts = Sums.of(x[:2], y[:2]).plus(Sums.of(x[2:], y[2:]))
    assert parts.distortion() == pytest.approx(Distortion.of(x, y))
    with pytest.raises(ValueError, match="shapes differ"):
        Sums.of([1.0], [1.0, 2.0])


def test_what_batch_norm_multiplies_by():
    gain = outliers.norm_gain(torch.tensor([-3.0, 1.0]), torch.tensor([8.0, 3.0]), 1.0)
    assert gain.tolist() == [1.0, 0.5]
    assert outliers.norm_gain(None, torch.tensor([3.0]), 1.0).tolist() == [0.5]
