"""A baseline that stands already is taken again only where it is the one asked for."""

from __future__ import annotations

from contextlib import suppress

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
    with pytest.raises(
        BadArtifact, match="made from another task, model, seed, weights or code of yours; remove it or"
    ):
        once.start("digits(limit=100)/cnn(width=0.25)", tmp_path / "trained")


NET = """from torch import nn

def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.{kind}(), nn.Linear(16, classes))
"""


def test_code_of_the_users_that_was_edited_makes_another_baseline(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "edited_for_once.py"
    file.write_text(NET.format(kind="ReLU"))
    chosen, model = task("digits(limit=100)"), "edited_for_once:net"
    made = once.train(chosen, model, tmp_path / "base", lessen.recipe(BRIEFLY))
    chosen.baseline = BRIEFLY
    assert once._is_baseline(made, chosen, model, 0) and len(made.manifest.code) == 32
    smaller = once.compress(made, chosen, lessen.recipe("Int8()"), tmp_path / "small")
    assert smaller.manifest.code == made.manifest.code
    file.write_text(NET.format(kind="Tanh"))
    assert not once._is_baseline(made, chosen, model, 0)
    assert once.train(chosen, "cnn(width=0.125)", tmp_path / "ours", lessen.recipe(BRIEFLY)).manifest.code == ""


def test_a_training_that_was_stopped_is_not_gone_on_with_by_other_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("lessen.ops.checkpoints.SECONDS", 0.0)
    chosen, four = task("digits(limit=100)"), lessen.recipe("Finetune(epochs=4, batch=64)")

    def epochs(kind: str, stop: str = "") -> list[str]:
        """Those that are trained until `stop`."""
        told = []

        def progress(share: float, text: str) -> None:
            told.append(text.partition("/")[0])
            if told[-1] == stop:
                raise KeyboardInterrupt

        (tmp_path / "stopped_for_once.py").write_text(NET.format(kind=kind))
        with suppress(KeyboardInterrupt):
            once.train(chosen, "stopped_for_once:net", tmp_path / "out", four, progress=progress)
        return list(dict.fromkeys(text for text in told if text.startswith("epoch")))

    assert epochs("ReLU", stop="epoch 3") == ["epoch 1", "epoch 2", "epoch 3"]
    assert "epoch 1" not in epochs("ReLU", stop="epoch 4")
    assert epochs("Tanh") == ["epoch 1", "epoch 2", "epoch 3", "epoch 4"]
    assert (tmp_path / "out").is_dir() and not list(tmp_path.glob(".out*"))
