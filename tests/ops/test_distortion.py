from __future__ import annotations

import math

import numpy as np
import pytest

from lessen.ops.distortion import Distortion


def test_numbers_by_hand() -> None:
    found = Distortion.of(np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([[3.0, 0.0], [0.5, 4.0]]))
    assert found == (0.25 / 4, 0.125, 0.1, pytest.approx(20.0))


def test_numpy_agrees() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 7, 9)).astype("f4")
    d = x.astype("f8") - y
    found = Distortion.of(x, y)
    assert found.mse == pytest.approx((d**2).mean()) and found.mae == pytest.approx(np.abs(d).mean())
    assert found.relative == pytest.approx(np.linalg.norm(d) / np.linalg.norm(x.astype("f8")))
    assert found.sqnr_db == pytest.approx(-20 * math.log10(found.relative))


def test_equal_arrays_arrays_of_zeros_and_other_shapes() -> None:
    assert Distortion.of([0.0], [0.0]) == (0, 0, 0, math.inf)
    assert Distortion.of([0.0, 0.0], [1.0, 0.0])[2:] == (math.inf, -math.inf)
    with pytest.raises(ValueError, match="shapes differ"):
        Distortion.of([1.0], [1.0, 2.0])
