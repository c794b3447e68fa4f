"""A law from rows: with the answers of every image, and from the seeds' scores alone."""

from __future__ import annotations

import numpy as np
import pytest
from made_rows import DENSE, answers, trial

from lessen.analyze.comparison import Comparison
from lessen.analyze.findings import Finding, find
from lessen.analyze.predictions import nobody

WIDTHS, IMAGES = (0.25, 0.5, 1.0, 1.5), 2000
BITS = {"8 bits": 8e4, "4 bits": 4e4}  # at width 1


def studied(seeds: int, *, kept: bool = True) -> Finding:
    """Errors of 0.16 x (width / 0.25)^-0.6 in 8 bits and a third more in 4, a little different by seed."""
    random = np.random.default_rng(0)
    images = [random.random(IMAGES) for _ in range(seeds)]
    arms: dict[str, list[str]] = {name: [] for name in BITS}
    rows, table = [trial("", s, 0.95, n=IMAGES) for s in range(seeds)], {}
    for name, more in (("8 bits", 1.0), ("4 bits", 1.3)):
        for width in WIDTHS:
            recipe = f"Student(width={width}) >> Int{name[0]}()"
            arms[name].append(recipe)
            of = DENSE.model_copy(update={"weight_bits": int(BITS[name] * width)})
            for s in range(seeds):
                right = images[s] > more * 0.16 * (width / 0.25) ** -0.6 + random.normal(0, 0.003)
                table[recipe, s] = right
                rows.append(trial(recipe, s, float(right.mean()), of=of, n=IMAGES))
    asked = Comparison(question="?", arms=arms, x="bits", by="law")
    return find(asked, rows, answers=answers(table) if kept else nobody)


@pytest.mark.parametrize("kept", [True, False], ids=["answers", "scores alone"])
def test_the_law_is_there_with_the_answers_and_without(kept):
    law = studied(5, kept=kept).law
    assert law is not None and law.images == (IMAGES if kept else 0)
    for fit in law.fits:
        assert fit.why == "" and fit.low and fit.high and 0 < fit.low <= fit.b <= fit.high
        assert fit.b == pytest.approx(0.6, abs=0.2)
    assert [(held.arm, held.sure) for held in (law.front[0], law.front[-1])] == [("4 bits", True), ("8 bits", True)]
    assert all(price.low and price.high for price in law.prices)
