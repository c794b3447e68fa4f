"""A baseline that stands already is taken again only where it is the one asked for."""

from __future__ import annotations

import pytest

import lessen
from lessen import artifact
from lessen.core.errors import BadArtifact
from lessen.study import once
from lessen.tasks import task

BRIEFLY = "Finetune(epochs=1, batch=64)"


def test_a_baseline_of_another_model_or_with_other_weights_is_not_taken(tmp_path):
    chosen = task("digits(limit=100)")
    chosen.baseline = BRIEFLY
    with chosen.seeded(0):
        fresh = chosen.build("cnn(width=0.125)")
    trained, records = lessen.recipe(BRIEFLY).apply(fresh, chosen)
    for name, made in (("given", ()), ("trained", records)):
        lessen.pack(trained, chosen, tmp_path / f"{name}-baseline", records=made)

    def takes(output: str, model: str = "cnn(width=0.125)", seed: int = 0) -> bool:
        return once._is_baseline(artifact.load(tmp_path / output), chosen, model, seed)

    assert takes("trained-baseline") and not takes("given-baseline")
    assert not takes("trained-baseline", "cnn(width=0.25)") and not takes("trained-baseline", seed=1)
    with pytest.raises(BadArtifact, match="made from another task, model, seed or weights; remove it or choose"):
        once.start("digits(limit=100)/cnn(width=0.25)", tmp_path / "trained")
