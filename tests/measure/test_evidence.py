"""What `measure` reports of a file made by hand, against an oracle in numpy."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import zstandard

import lessen.tasks
from lessen.analyze.statistics import wilson
from lessen.artifact import runtimes
from lessen.artifact.manifest import SparseWeight
from lessen.core.errors import BadArtifact, BadData, LessenError
from lessen.core.record import Measurement
from lessen.core.target import Target
from lessen.core.task import Split
from lessen.measure import evidence, measure

FEW = Target(runs=3, batches=(1, 8))


def logits(task: Any, name: str, weight: np.ndarray) -> np.ndarray:
    return task.inputs(task.split(name).x).reshape(-1, 9) @ weight


def share(task: Any, name: str, weight: np.ndarray) -> tuple[int, int]:
    right = logits(task, name, weight).argmax(1) == task.split(name).y
    return int(right.sum()), len(right)


def weight_of(artifact: Any) -> np.ndarray:
    return onnx.numpy_helper.to_array(onnx.load(artifact.runnable[0]).graph.initializer[0])


@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
def test_scores_and_predictions_are_the_oracles(make_artifact, task, tmp_path: Path, runtime: Any) -> None:
    artifact = make_artifact()
    answers = tmp_path / "predictions" / "deep" / "row.npz"
    found = measure(artifact, task, target=Target(runtime=runtime), predictions=answers, latency=False)
    for name, score in (("validation", found.validation), ("test", found.test)):
        right, n = share(task, name, weight_of(artifact))
        assert score is not None
        assert (score.value, score.n, (score.low, score.high)) == (right / n, n, wilson(right, n))
    assert 0.7 < found.test.value < 0.95
    y = logits(task, "test", weight_of(artifact)).astype(float)
    expected = np.exp(y) / np.exp(y).sum(1, keepdims=True)
    with np.load(answers) as arrays:
        assert set(arrays) == {"classes", "probabilities", "targets"}
        np.testing.assert_array_equal(arrays["classes"], y.argmax(1))
        np.testing.assert_array_equal(arrays["targets"], task.split("test").y)
        np.testing.assert_allclose(arrays["probabilities"], expected, atol=1e-3)
    assert [f.name for f in answers.parent.iterdir()] == ["row.npz"]
    assert found.machine.runtime.startswith(f"{runtime} ")
    assert found.latency == ()
    assert sum(n for name, n in found.operators.items() if name in ("MatMul", "FullyConnected")) == 1


def test_bytes_stay_in_their_columns(make_artifact, task) -> None:
    artifact = make_artifact()
    model = (artifact.folder / "model.onnx").read_bytes()
    found = measure(artifact, task, latency=False)
    assert found.bytes.runnable == len(model)
    assert found.bytes.transport == len(zstandard.ZstdCompressor(level=19).compress(model))
    assert found.bytes.folder == len(model) + 500 + (artifact.folder / "manifest.json").stat().st_size
    assert found.cost == artifact.manifest.cost


def test_latency_beside_a_baseline(make_artifact, task) -> None:
    found = measure(make_artifact(), task, target=FEW, baseline=make_artifact("baseline").folder)
    assert [row.batch for row in found.latency] == [1, 8]
    for row in found.latency:
        assert row.n == 3
        assert row.median_ms > 0
        assert row.iqr_ms >= 0
        assert row.ratio is not None
        assert row.ratio > 0
        assert row.ratio_iqr is not None
    assert found.peak_memory_mib > 0
    assert found.machine.threads == 1
    assert "latency from 3 runs, too few for a claim; 30 are the rule" in found.notes
    assert Measurement.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("claimed", [True, False])
def test_sparse_weights_that_are_unpacked_at_every_call_are_told(make_artifact, task, claimed: bool) -> None:
    weight = SparseWeight(layer="w", weights=36, nonzeros=4, bytes=20, dense_bytes=144)
    artifact = make_artifact(sparse=(weight,) if claimed else ())
    model = onnx.load(artifact.folder / "model.onnx")
    model.graph.node[1].input[0] = "counted"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "axis"))
    model.graph.node.insert(1, onnx.helper.make_node("CumSum", ["f", "axis"], ["counted"]))
    onnx.save(model, artifact.folder / "model.onnx")
    found = measure(artifact, task, latency=False)
    assert any("unpacks the sparse weights at every call" in note for note in found.notes) == claimed


def test_no_baseline_no_ratio(make_artifact, task) -> None:
    found = measure(make_artifact(), task, target=FEW)
    assert [(row.ratio, row.ratio_iqr) for row in found.latency] == [(None, None)] * 2


def test_an_artifact_beside_itself_is_about_as_fast(make_artifact, task) -> None:
    artifact = make_artifact(weight=np.ones((9, 4), "f4"))
    found = measure(artifact, task, target=Target(runs=15, batches=(8,)), baseline=artifact)
    assert found.latency[0].ratio is not None
    assert 0.2 < found.latency[0].ratio < 5


def test_path_and_manifest_are_enough(make_artifact, task, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, asked = make_artifact(notes=("no-op: as large as before",)), []
    monkeypatch.setattr(lessen.tasks, "task", lambda text: asked.append(text) or task, raising=False)
    found = measure(str(artifact.folder), latency=False)
    assert asked == ["toy()"]
    assert found.notes == ("no-op: as large as before",)
    assert found.test.n == 150


def test_temporary_files_go_with_it(make_artifact, task, tmp_path: Path) -> None:
    measure(make_artifact(), task, target=FEW)
    assert [f.name for f in (tmp_path / "temporary").iterdir()] == ["lessen-quiet-machine.lock"]


def test_large_splits_are_written_in_chunks(make_artifact, task, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = make_artifact()
    whole = measure(artifact, task, latency=False)
    monkeypatch.setattr(evidence, "CHUNK", 7)
    assert measure(artifact, task, latency=False).test == whole.test


def test_empty_validation(make_artifact, other_task) -> None:
    empty, whole = Split(np.empty((0, 1, 3, 3), "u1"), np.empty(0, "i8")), other_task().split
    final = other_task(split=lambda name: empty if name == "validation" else whole(name))
    assert measure(make_artifact(), final, latency=False).validation is None
    with pytest.raises(BadData, match=r"task 'toy\(\)' has no test samples"):
        measure(make_artifact("again"), other_task(split=lambda name: empty))


def test_other_data_are_told(make_artifact, other_task) -> None:
    found = measure(make_artifact(), other_task(fingerprint="g", text="toy(seed=1)"), latency=False)
    assert found.notes == (
        "measured on 'toy(seed=1)', whose data or splits differ from those that it was made with; "
        "images that are scored may be among those that it was trained on",
    )


def test_another_tasks_artifact_is_refused(make_artifact, other_task) -> None:
    with pytest.raises(BadArtifact, match=r"takes \(1, 3, 3\) and knows 4 classes, but task 'toy\(\)' gives"):
        measure(make_artifact(), other_task(classes=("a", "b")))


def test_outputs_that_are_not_numbers_count_as_wrong(make_artifact, task, tmp_path: Path) -> None:
    weight = np.full((9, 4), np.nan, "f4")
    found = measure(make_artifact(weight=weight), task, latency=False, predictions=tmp_path / "p.npz")
    assert found.test.value == 0
    assert found.validation is not None
    assert found.validation.value == 0
    assert "200 samples got outputs that are not finite; they count as wrong" in found.notes


def test_more_threads_than_cpus_are_told(make_artifact, task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence.machine, "cpus", lambda: {0})
    found = measure(make_artifact(), task, target=Target(runs=1, batches=(1,), threads=2))
    assert "2 threads shared 1 CPUs" in found.notes


def test_missing_runtime_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(LessenError, match=r"runtime 'openvino' is not installed; pip install 'lessen\[openvino\]'"):
        measure("nowhere", target=Target(runtime="openvino"))


def test_a_file_that_the_runtime_refuses(make_artifact, task) -> None:
    artifact = make_artifact()
    (artifact.folder / "model.onnx").write_bytes(b"\x08\x0a nonsense" * 20)
    with pytest.raises(BadArtifact) as caught:
        measure(artifact, task)
    assert str(caught.value).startswith(f"onnxruntime cannot run {artifact.folder / 'model.onnx'}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("import sys; print('first', file=sys.stderr); raise OSError(28, 'No space left on device')",
         "failed: OSError: [Errno 28] No space left on device"),
        ("import os; os.kill(os.getpid(), 9)", "failed: killed by SIGKILL; the machine may be out of memory"),
        ("raise SystemExit(3)", "failed: exit code 3"),
    ],
)  # fmt: skip
def test_a_worker_that_dies(
    make_artifact, task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(evidence, "sys", SimpleNamespace(executable=str(python)))
    with pytest.raises(LessenError) as caught:
        measure(make_artifact(), task)
    assert str(caught.value) == f"measuring {tmp_path / 'artifact'} {expected}"


def test_a_full_disk_is_told(make_artifact, task, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(LessenError, match=r"validation samples cannot be written to .* \(No space left on device\)"):
        measure(make_artifact(), task)
