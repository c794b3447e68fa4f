"""Seeded stratified draws, and the arguments that all image tasks share."""

from __future__ import annotations

import numpy as np
import pytest

from lessen.core.errors import BadField, UnknownName
from lessen.core.text import parse_call
from lessen.tasks.dataset import Settings, draw
from lessen.tasks.digits import Digits


def test_draw_by_hand() -> None:
    y = np.array([0] * 6 + [1] * 3 + [2] * 2)
    chosen, rest = draw(y, 5, seed=0, purpose="test")  # shares 2.73, 1.36, 0.91: floors 2, 1, 0, two more to 2 and 0
    assert np.bincount(y[chosen]).tolist() == [3, 1, 1]
    assert sorted([*chosen, *rest]) == list(range(11))


@pytest.mark.parametrize("n", [0, 1, 10, 99, 100])
def test_draw_has_the_size_asked_for(n: int) -> None:
    y = np.random.default_rng(1).integers(0, 7, 100)
    chosen, rest = draw(y, n, seed=3, purpose="test")
    assert (len(chosen), len(rest)) == (n, 100 - n)
    assert not set(chosen) & set(rest)


def test_draw_follows_seed_and_purpose() -> None:
    y = np.zeros(100, int)
    base = draw(y, 50, 0, "test")[0].tolist()
    assert draw(y, 50, 0, "test")[0].tolist() == base
    assert draw(y, 50, 1, "test")[0].tolist() != base
    assert draw(y, 50, 0, "validation")[0].tolist() != base


def test_text_makes_the_value_again_and_hides_defaults() -> None:
    settings = Digits(seed=3, crop=0, flip=True, jitter=0.2)
    assert str(settings) == "digits(seed=3, crop=0, flip=True, jitter=0.2)"
    assert Digits(**parse_call(str(settings)).args) == settings
    assert str(Digits()) == "digits()"


def test_bad_arguments_name_the_field() -> None:
    with pytest.raises(BadField, match=r"digits\.jitter = 3\.0 is out of its range 0 to 1"):
        Digits(jitter=3.0)
    with pytest.raises(BadField, match=r"digits\.seed = 'x' is wrong"):
        Digits(seed="x")
    with pytest.raises(UnknownName, match="unknown field of digits 'sed'; did you mean 'seed'"):
        Digits(sed=1)


def test_where_the_files_lie_is_not_part_of_the_fingerprint() -> None:
    assert set(Digits().shared()) == set(Settings.model_fields)
