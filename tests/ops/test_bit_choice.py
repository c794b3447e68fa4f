"""Bits against trying every assignment."""

from __future__ import annotations

from itertools import product

import pytest
from test_curvature import Few
from tiny_task import net
from torch import nn

from lessen.ops import bit_choice, curvature, file_bytes, layers
from lessen.ops.graph import norm_pairs

OFFERED = (16, 8, 4, 2)


@pytest.fixture(scope="module")
def model():
    return layers.own(net()).eval()


@pytest.fixture(scope="module", params=["fisher", "hessian", "variance"])
def rows(request, model):
    # seed 2: the first layer's trace is about 0, and an estimate below it would count as no loss at any bits
    found = curvature.measure(model, Few(), request.param, samples=12, draws=8, seed=2)
    return bit_choice.table(model, found, {}, OFFERED, integer=True, rule="mse", share=1.0)


def brute(rows, most, amount):
    """The smallest loss of all assignments within the budget."""
    every = product(*(range(len(row)) for row in rows))
    return min((bit_choice.objective(rows, c) for c in every if amount(c) <= most), default=None)


def test_losses_rise_as_bits_fall(rows):
    for row in rows:
        assert [o.bits for o in row] == [16, 8, 4, 2]
        losses = [o.loss for o in row]
        assert losses == sorted(losses) and losses[0] < 1e-4 * losses[-1]


def test_bytes_equal_trying_every_assignment(rows, model):
    fixed = file_bytes.fixed(model, 8)
    sizes = [bit_choice.size(rows, c, fixed) for c in product(range(4), repeat=3)]
    low, high = bit_choice.smallest(rows, fixed), max(sizes)
    assert low == min(sizes)
    for step in range(13):
        most = low + (high - low) * step / 12
        choice = bit_choice.within_bytes(rows, fixed, most)
        assert choice is not None and bit_choice.size(rows, choice, fixed) <= most
        best = brute(rows, most, lambda c: bit_choice.size(rows, c, fixed))
        assert bit_choice.objective(rows, choice) == pytest.approx(best, rel=1e-5)
    assert bit_choice.within_bytes(rows, fixed, low - 1) is None


def test_average_bits_equal_trying_every_assignment(rows, model):
    counts = [layer.weight.numel() for layer in layers.weighted(model).values()]
    for most in (2.0, 2.5, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0):
        choice = bit_choice.within_bits(rows, counts, most)
        assert choice is not None and bit_choice.average(rows, choice, counts) <= most
        best = brute(rows, most + 1e-9, lambda c: bit_choice.average(rows, c, counts))
        assert bit_choice.objective(rows, choice) == pytest.approx(best, rel=1e-5)
    assert bit_choice.within_bits(rows, counts, 1.9) is None


def test_a_table_is_paid_once(rows, model):
    """Two bits in every layer need one table, so the file is smaller than its layers with a table each."""
    fixed, twos = file_bytes.fixed(model, 8), [3] * 3
    tables = frozenset().union(*(row[3].size.tables for row in rows))
    assert tables and bit_choice.size(rows, twos, fixed) == fixed + sum(r[3].size.bytes for r in rows) + sum(
        file_bytes.TABLES[t] for t in tables
    )


def test_a_layer_with_few_bits_keeps_them(model):
    own = layers.own(net()).eval()
    own[8].wq = layers.WeightQuantizer.fitting(own[8], 4)
    flat = {path: curvature.Curvature(own[0].weight.new_tensor(1.0).double(), 1.0) for path in layers.weighted(own)}
    rows = bit_choice.table(own, flat, {"3": 2, "8": 8}, OFFERED, integer=False, rule="coverage", share=1.0)
    assert [[o.bits for o in row] for row in rows] == [[16, 8, 4, 2], [2], [4]]
    rows = bit_choice.table(own, flat, {}, OFFERED, integer=False, rule="coverage", share=1.0)
    assert [o.bits for o in rows[2]] == [4, 2] and rows[2][0].loss == 0
    own[3].wq = layers.HalfQuantizer("float16")
    rows = bit_choice.table(own, flat, {}, (8, 2), integer=False, rule="coverage", share=1.0)
    assert [o.bits for o in rows[1]] == [8, 2]
    assert set(norm_pairs(own).values()) == {"0", "3"}


def test_first_and_last_are_those_that_compute_so():
    class HeadFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(4))

        def forward(self, x):
            return self.head(self.c(self.b(self.a(x))))

    model = layers.own(HeadFirst())
    assert bit_choice.first_and_last(model, 2) == {"head": 8, "a": 8, "b": 2, "c": 2}
    assert bit_choice.first_and_last(layers.own(nn.Sequential(nn.Linear(4, 4))), 4) == {"0": 8}
