from __future__ import annotations

import math
import random

import pytest

from lessen.analyze.pareto import Option, front, recommend


def dominated(points, minimize):
    """The definition, word by word: indices that some other point beats."""
    found = set()
    for i, a in enumerate(points):
        for b in points:
            better = [(y < x) if low else (y > x) for x, y, low in zip(a, b, minimize, strict=True)]
            worse = [(y > x) if low else (y < x) for x, y, low in zip(a, b, minimize, strict=True)]
            if any(better) and not any(worse):
                found.add(i)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_front_is_what_the_definition_says(seed):
    rng = random.Random(seed)
    dimensions = rng.choice((1, 2, 2, 3))
    minimize = tuple(rng.random() < 0.5 for _ in range(dimensions))
    grid = rng.choice((3, 1000))  # a coarse grid is full of ties and duplicates
    points = [tuple(rng.randrange(grid) for _ in range(dimensions)) for _ in range(rng.randrange(40))]
    found = front(points, minimize)
    assert set(found) == set(range(len(points))) - dominated(points, minimize)
    assert len(found) == len(set(found))
    firsts = [points[i][0] for i in found]
    assert firsts == sorted(firsts, reverse=not minimize[0])


def test_equal_points_both_stay_and_nan_never_does():
    assert front([(1, 0.9), (1, 0.9), (1, math.nan), (2, 0.8)]) == [0, 1]
    assert front([]) == []


def test_a_point_of_another_length_is_an_error():
    with pytest.raises(ValueError):
        front([(1, 2, 3)])


BASE = Option(0.0, 100, 1.0)


def test_recommend_by_hand():
    options = [
        Option(0.010, 30, 0.9),  # exactly one point lost: allowed
        Option(0.011, 10, 0.1),  # smaller and faster, but just too much lost
        Option(0.004, 60, 0.3),
        Option(-0.002, 99, 1.2),
        Option(-0.009, 100, 0.9),  # better than all, but no smaller than the baseline
    ]
    assert recommend(options, BASE) == (0, 2, 3)
    assert recommend(options, BASE, max_drop=0.02) == (1, 1, 3)
    assert recommend(options, BASE, max_drop=0.0) == (3, 4, 3)


def test_recommend_keeps_to_the_limits_and_breaks_ties():
    options = [Option(0.005, 50, 0.5), Option(0.001, 50, 0.5), Option(0.0, 80, 2.0), Option(math.nan, 1, 0.01)]
    assert recommend(options, BASE) == (1, 1, 2)
    assert recommend(options, BASE, max_size=70) == (1, 1, 1)
    assert recommend(options, BASE, max_size=40) == (None, None, None)
    assert recommend(options, BASE, max_time=0.4) == (None, None, None)


def test_the_most_accurate_keeps_to_the_allowed_drop_too():
    options = [Option(0.028, 50, 0.5), Option(0.5, 10, 0.1)]
    assert recommend(options, BASE) == (None, None, None)
    assert recommend(options, BASE, max_drop=0.03) == (0, 0, 0)
    assert recommend([*options, Option(0.0, 100, 0.9)], BASE) == (None, 2, None)  # near, but no smaller


def test_recommend_without_times():
    assert recommend([Option(0.0, 50)], Option(0.0, 100)) == (0, None, 0)
    assert recommend([], BASE) == (None, None, None)
