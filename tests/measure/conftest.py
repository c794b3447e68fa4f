"""A small file made by hand, an artifact around it, and a task of 150 samples that fits it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lessen.artifact import Artifact, Fidelity, Manifest
from lessen.artifact.manifest import entry
from lessen.core.record import Cost
from lessen.core.task import Split

CLASSES, SHAPE = 4, (1, 3, 3)
WEIGHT = np.random.default_rng(0).normal(size=(9, CLASSES)).astype("f4")


def write_model(file: Path, weight: np.ndarray) -> None:
    """y = flatten(x) @ weight, as model.onnx."""
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, file)


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests wait for each other's lock in vain: each has a folder for temporary files of its own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def make_artifact(tmp_path: Path) -> Callable[..., Artifact]:
    def make(name: str = "artifact", weight: np.ndarray = WEIGHT, **changes: Any) -> Artifact:
        folder = tmp_path / name
        folder.mkdir()
        write_model(folder / "model.onnx", weight)
        (folder / "weights.safetensors").write_bytes(bytes(500))
        values: dict[str, Any] = {
            "recipe": "", "seed": 0, "model": "linear", "task": "toy()", "task_fingerprint": "f", "final": False,
            "license": "none", "classes": tuple("abcd"), "shape": SHAPE, "preprocess": {}, "computes": "float32",
            "cost": Cost(parameters=weight.size, nonzeros=int((weight != 0).sum()), macs=36, weight_bits=1152),
            "fidelity": Fidelity(n=1, agreement=1, sqnr_db=99, least_agreement=0.9, least_sqnr_db=9, sure_sqnr_db=30),
            "versions": {},
            "files": {
                "model.onnx": entry(folder / "model.onnx", "runnable"),
                "weights.safetensors": entry(folder / "weights.safetensors", "compress"),
            },
        }  # fmt: skip
        manifest = Manifest(**(values | changes))
        (folder / "manifest.json").write_text(manifest.model_dump_json())
        return Artifact(folder, manifest)

    return make


def make_task(**changes: Any) -> Any:
    """Stored uint8 samples; the model takes them less 8. Labels follow WEIGHT for most samples."""
    random = np.random.default_rng(1)
    x = random.integers(0, 17, (200, *SHAPE), np.uint8)
    y = ((x - 8.0).reshape(200, -1) @ WEIGHT).argmax(1)
    y[::5] = random.integers(0, CLASSES, 40)
    parts = {"validation": slice(0, 50), "test": slice(50, 200)}
    values = {
        "text": "toy()", "fingerprint": "f", "classes": tuple("abcd"), "shape": SHAPE, "final": False,
        "scored_by": "top-1",
        "split": lambda name: Split(x[parts[name]], y[parts[name]]),
        "inputs": lambda samples: samples.astype("f4") - 8,
    }  # fmt: skip
    return SimpleNamespace(**(values | changes))


@pytest.fixture
def task() -> Any:
    return make_task()


@pytest.fixture
def other_task() -> Callable[..., Any]:
    return make_task
