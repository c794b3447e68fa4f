"""Allocation against trying every choice."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from lessen.analyze.allocation import Term, allocate, kept, least


def brute(losses, terms, most, second):
    choices = [c for c in product(*(range(len(row)) for row in losses)) if kept(terms, c) <= most + 1e-9]
    cost = [
        tuple(round(sum(t[i] for t, i in zip(table, c, strict=True)), 9) for table in (losses, second)) for c in choices
    ]
    return min(cost, default=None)


def problem(seed: int, pairs: bool):
    random = np.random.default_rng(seed)
    options = random.integers(2, 5, size=4)
    losses = [[0.0, *np.sort(random.integers(0, 6, n - 1) / 10)] for n in options]
    second = [[0.0, *random.random(n - 1)] for n in options]
    left = [np.array([1.0, *np.sort(random.random(n - 1))[::-1]]) for n in options]
    terms = [Term((i,), 10 * random.random() * left[i]) for i in range(4)]
    if pairs:
        terms += [
            Term((i, j), 50 * random.random() * np.outer(left[i], left[j])) for i, j in ((0, 1), (2, 1), (2, 3), (1, 1))
        ]
    return losses, second, terms


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_trying_every_choice(seed, pairs):
    losses, second, terms = problem(seed, pairs)
    now, low = (kept(terms, c) for c in ([0] * 4, least([len(row) for row in losses], terms)))
    assert low == pytest.approx(min(kept(terms, c) for c in product(*(range(len(row)) for row in losses))))
    for share in (0.0, 0.3, 0.7, 1.0):
        most = low + share * (now - low)
        choice = allocate(losses, terms, most, second)
        assert choice is not None and kept(terms, choice) <= most * (1 + 1e-6)
        found = tuple(sum(t[i] for t, i in zip(table, choice, strict=True)) for table in (losses, second))
        assert found == pytest.approx(brute(losses, terms, most, second), abs=1e-6)


def test_the_cheap_layer_pays():
    tables = [Term((i,), np.array([10.0, 2.0])) for i in range(2)]
    assert allocate([[0.0, 0.5], [0.0, 0.1]], tables, most=12) == [0, 1]
    assert allocate([[0.0, 0.5], [0.0, 0.1]], tables, most=4) == [1, 1]


def test_out_of_reach_is_none():
    assert allocate([[0.0, 0.5]], [Term((0,), np.array([10.0, 2.0]))], most=1.9) is None


def test_sixty_layers_with_products_are_solved():
    random = np.random.default_rng(0)
    losses = [[0.0, *np.sort(random.random(6))] for _ in range(60)]
    left = np.linspace(1, 0.1, 7)
    terms = [Term((i, i + 1), random.integers(1, 100) * np.outer(left, left)) for i in range(59)]
    choice = allocate(losses, terms, 0.5 * kept(terms, [0] * 60))
    assert choice is not None and kept(terms, choice) <= 0.5 * kept(terms, [0] * 60) * (1 + 1e-6)


def test_losses_of_many_magnitudes():
    """The solver's gap is a millionth of the largest loss, which may be more than what the best choice loses."""
    losses = [[0.0, 1e-7 * (i + 1), 1e3] for i in range(6)]
    terms = [Term((i,), np.array([4.0, 2.0, 1.0])) for i in range(6)]
    for most in (24, 22, 20, 18, 14, 12):
        found = allocate(losses, terms, most, [[1.0, 2.0, 3.0]] * 6)
        assert found is not None
        cheapest = min(
            sum(row[o] for row, o in zip(losses, c, strict=True)) for c in product(range(3), repeat=6)
            if kept(terms, c) <= most
        )  # fmt: skip
        assert sum(row[o] for row, o in zip(losses, found, strict=True)) == pytest.approx(cheapest, rel=1e-5)
