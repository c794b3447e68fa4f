"""The best value of a field: validation chooses, resamples of seeds say how surely."""

from __future__ import annotations

import numpy as np
import pytest
from made_rows import record, trial

from lessen.analyze.best import _narrowest
from lessen.analyze.comparison import Comparison
from lessen.analyze.findings import find
from lessen.catalog import number
from lessen.core.errors import BadStudy

SEEDS = (0, 1, 2, 3)
VALUES = (1.0, 2.0, 4.0)


def text(t: float, more: str = "") -> str:
    return f"LogitDistill(epochs=5, temperature={t}{more})"


def asked(x: str = "LogitDistill.temperature") -> Comparison:
    arms = {"plain": [text(t) for t in VALUES], "standardized": [text(t, ", standardize=True") for t in VALUES]}
    return Comparison(question="?", arms=arms, x=x, by="best")


def rows(scores: dict[float, tuple[float, ...]], **more) -> list:
    return [
        trial(text(t), s, score, record(text(t), details={"entropy": t / 10, **more}))
        for t, values in scores.items()
        for s, score in zip(SEEDS, values, strict=True)
    ]


def test_a_value_that_wins_in_every_seed_is_sure():
    found = find(asked(), rows({1.0: (0.8,) * 4, 2.0: (0.9, 0.91, 0.9, 0.91), 4.0: (0.7,) * 4}), field=number)
    (best,) = found.bests  # the other arm has not run
    assert (best.arm, best.x, best.low, best.high, best.seeds) == ("plain", 2.0, 2.0, 2.0, 4)
    assert [v.share for v in best.values] == [0.0, 1.0, 0.0]
    assert [v.entropy for v in best.values] == pytest.approx([0.1, 0.2, 0.4])
    assert found.model_validate_json(found.model_dump_json()) == found


def test_values_that_take_turns_share_the_resamples():
    found = find(asked(), rows({1.0: (0.9, 0.8, 0.9, 0.8), 2.0: (0.8, 0.9, 0.8, 0.9), 4.0: (0.5,) * 4}), field=number)
    (best,) = found.bests
    assert (best.low, best.high) == (1.0, 2.0)
    shares = [v.share for v in best.values]
    assert shares[0] == pytest.approx(0.5, abs=0.05) and sum(shares) == pytest.approx(1) and shares[2] == 0


def test_one_seed_tells_nothing():
    scores = rows({1.0: (0.8,) * 4, 2.0: (0.9,) * 4})
    assert find(asked(), [t for t in scores if t.seed == 0], field=number).bests == ()


def test_the_narrowest_run_holds_the_level():
    assert _narrowest(np.array([0.02, 0.5, 0.46, 0.02])) == (1, 2)
    assert _narrowest(np.array([0.3, 0.3, 0.4])) == (0, 2)
    assert _narrowest(np.array([0.0, 0.0, 1.0])) == (2, 2)


def test_a_cost_is_no_field():
    with pytest.raises(BadStudy, match="by: best needs a field as x, and x is 'bytes'"):
        asked("bytes")
