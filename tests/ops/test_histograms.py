"""Bins and counts by hand."""

from __future__ import annotations

import pytest
import torch

from lessen.ops import histograms


def test_one_set_of_edges_covers_all_values_but_zeros():
    assert histograms.edges([torch.tensor([-1.0, 0.0]), torch.tensor([[0.0, 3.0]])], 4) == [-1, 0, 1, 2, 3]
    assert histograms.edges([torch.tensor([0.0, 2.0, 6.0])], 2) == [2, 4, 6]


@pytest.mark.parametrize(("values", "expected"), [([0.0], [-1, 0, 1]), ([2.0, 2.0], [1, 2, 3]), ([-2.0], [-3, -2, -1])])
def test_no_value_and_one_value_have_edges_too(values, expected):
    assert histograms.edges([torch.tensor(values)], 2) == expected


def test_counts_leave_zeros_out_and_keep_both_ends():
    values = torch.tensor([-1.0, -0.5, 0.0, 0.0, 1.0, 2.0, 3.0])
    assert histograms.counts(values, [-1, 0, 1, 2, 3]) == [2, 0, 1, 2]
    assert histograms.counts(torch.zeros(3), [-1, 0, 1]) == [0, 0]
