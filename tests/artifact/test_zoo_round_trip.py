"""Every zoo model, packed and loaded again, in float and in int8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lessen import catalog, models
from lessen.artifact import fidelity, load, pack
from lessen.artifact.fidelity import sqnr_db
from lessen.artifact.runtimes import open_session
from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask

FAST = (
    "mobilenetv2(width=0.25, depth=0.3)", "densenet(depth=10)", "vit(width=0.25, depth=2)",
    "fast75(width=0.25, views=2)",
)  # fmt: skip
NARROW = {"resnet18", "resnet34", "resnet50", "wrn28_10", "vgg", "vgg11", "vgg13", "vgg16", "vgg19", "efficientnet_b0"}


@pytest.fixture(scope="module")
def images():
    """Random pictures with a pattern a class: enough for batch norm and calibration to see real ranges."""
    random = np.random.default_rng(0)
    pattern = random.integers(0, 256, (10, 3, 32, 32))
    y = np.arange(400) % 10
    x = (0.5 * pattern[y] + 0.5 * random.integers(0, 256, (400, 3, 32, 32))).astype(np.uint8)
    return ImageTask(Images(x, y, x[:100], y[:100], classes=tuple("0123456789")), Settings(validation=40))


def settled(task, text):
    """A fresh model whose batch norm statistics come from the data, as after training."""
    with task.seeded(0):
        model = task.build(text)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    with torch.no_grad():
        model.train()(task.inputs(task.split("train").x[:128]))
    for norm in norms:
        norm.momentum = 0.1
    return model.eval()


def check(task, text, folder):
    model = settled(task, text)
    x = task.inputs(task.split("test").x[:32])
    artifact = pack(model, task, folder / "float")
    with torch.inference_mode():
        expected = model(x).numpy()
        assert torch.equal(load(artifact.folder).model()(x), torch.from_numpy(expected))
    found = open_session(artifact.runnable).run(x.numpy())
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()

    quantized, _ = catalog.recipe("Int8()").apply(model, task)
    small = pack(quantized, task, folder / "int8", recipe="Int8()", parent=artifact)
    assert small.manifest.files["model.onnx"].bytes < 0.6 * artifact.manifest.files["model.onnx"].bytes
    assert small.manifest.notes == ()
    with torch.inference_mode():
        simulated = quantized.eval()(x).numpy()
    # Untrained deep nets are chaotic: a flipped rounding grows from layer to layer, until file and simulation are as
    # far apart as either is from float. A file that computes the same is as near to float as its simulation.
    answered = open_session(small.runnable).run(x.numpy())
    assert sqnr_db(expected, answered) > sqnr_db(expected, simulated) - 2


@pytest.fixture(autouse=True)
def tolerant(monkeypatch):
    """Pack refuses chaos, rightly; `check` has a measure of its own for untrained nets."""
    monkeypatch.setattr(fidelity, "INTEGER", fidelity.Tolerance(0.0, 5.0, 5.0))


@pytest.mark.parametrize("text", FAST)
def test_unusual_models_round_trip(images, text, tmp_path):
    check(images, text, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_every_zoo_model_round_trips(images, name, tmp_path):
    check(images, f"{name}(width=0.25)" if name in NARROW else name, tmp_path)
