"""All orders of three techniques as one study train at most half of the steps that separate runs would.

Counts every technique that is really applied, the baseline's training too, on digits with a tiny net. Packing and
measuring are left out: they are not shared and are no steps. Exits with 1 above the bound.

    python benchmarks/prefix_sharing.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any, NoReturn

from lessen.core.errors import LessenError
from lessen.core.technique import Technique
from lessen.study import Study
from lessen.study.execute import Executor

TECHNIQUES = ("MagnitudePrune(sparsity=0.7)", "Int8()", "Finetune(epochs=1)")
ORDERS = [" >> ".join(order) for n in (1, 2, 3) for order in permutations(TECHNIQUES, n)]
BOUND = 0.5
LEFT_OUT = "left out by this benchmark"

applied: list[str] = []


def counted(self: Technique, *args: Any, **more: Any) -> Any:
    applied.append(str(self))
    return original(self, *args, **more)


def no_pack(*args: Any, **more: Any) -> NoReturn:
    raise LessenError(LEFT_OUT)


def steps(recipes: Sequence[str], folder: Path) -> int:
    """Techniques applied by a study of these recipes in a fresh folder."""
    before = len(applied)
    study = Study(
        name="orders", task="digits", model="cnn(width=0.125)", baseline="Finetune(epochs=1, lr=0.1)",
        recipes=tuple(recipes),
    )  # fmt: skip
    for trial in Executor(study, folder, pack=no_pack).run():
        if LEFT_OUT not in trial.error:
            sys.exit(f"{trial.recipe}: {trial.error}")
    return len(applied) - before


original = Technique.apply
Technique.apply = counted  # type: ignore[method-assign]
with tempfile.TemporaryDirectory() as name:
    together = steps(ORDERS, Path(name) / "together")
    apart = sum(steps([recipe], Path(name) / str(i)) for i, recipe in enumerate(ORDERS))
ratio, techniques = together / apart, (together - 1) / (apart - len(ORDERS))
print(f"{len(ORDERS)} recipes, each with its baseline: {together} steps in one study, {apart} in separate runs")
print(
    f"ratio {ratio:.3f} (bound {BOUND}), without the baselines {techniques:.3f}; counts are the same on every machine"
)
sys.exit(ratio > BOUND)
