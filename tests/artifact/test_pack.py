from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from lessen import catalog
from lessen.artifact import export as exporting
from lessen.artifact import load, pack
from lessen.artifact.fidelity import samples, sqnr_db
from lessen.artifact.runtimes import open_session
from lessen.core.errors import BadArtifact, Disagreement, DiskFull
from lessen.models import state


@pytest.fixture(scope="module")
def int8(digits, trained, baseline, tmp_path_factory):
    model, records = catalog.recipe("Int8()").apply(trained, digits)
    folder = tmp_path_factory.mktemp("packed") / "int8"
    return model, pack(model, digits, folder, recipe="Int8()", records=records, parent=baseline)


def outputs(artifact, x):
    return open_session(artifact.runnable).run(x.numpy())


def test_an_artifact_is_four_files_and_nothing_is_left_beside_it(baseline):
    assert {f.name for f in baseline.folder.iterdir()} == {
        "model.onnx", "structure.json", "weights.safetensors", "manifest.json",
    }  # fmt: skip
    assert [f.name for f in baseline.folder.parent.iterdir()] == ["baseline"]
    assert [f.name for f in baseline.runnable] == ["model.onnx"]


def test_the_float_file_computes_what_the_model_computes(digits, trained, baseline):
    x = digits.inputs(digits.split("test").x[:300])
    with torch.inference_mode():
        expected = trained(x).numpy()
    assert np.abs(outputs(baseline, x) - expected).max() <= 1e-4 * np.abs(expected).max()
    assert baseline.manifest.fidelity.agreement == 1.0


def test_what_is_compared_are_different_samples(digits, baseline):
    compared = samples(digits)
    assert len(compared) == baseline.manifest.fidelity.n == len(compared.unique(dim=0))
    assert len(compared) == min(1000, len(digits.split("train").x.unique(dim=0)))
    calibration = digits.inputs(digits.split("calibration").x)
    assert torch.equal(compared[: len(calibration)], calibration)


def test_the_file_does_not_tell_how_memory_was_laid_out(digits, trained):
    sample = digits.inputs(digits.split("train").x[:1])
    plain = exporting.export(digits.copy(trained), sample).proto
    copied = digits.copy(trained).to(memory_format=torch.channels_last)
    turned = exporting.export(copied, sample.to(memory_format=torch.channels_last)).proto
    assert [n.op_type for n in turned.graph.node] == [n.op_type for n in plain.graph.node]
    assert turned.SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)


def test_int8_runs_in_integer_kernels_throughout(int8):
    counts = open_session(int8[1].runnable).operators()
    convolutions = sum(isinstance(m, nn.Conv2d) for m in int8[0].modules())
    assert counts["QLinearConv"] == convolutions
    assert counts["QGemm"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "BatchNormalization"} & set(counts)
    assert counts["QLinearAdd"] == 3


def test_int8_stores_every_weight_as_integers(int8):
    model, artifact = int8
    proto = onnx.load(artifact.folder / "model.onnx")
    kinds = Counter(i.data_type for i in proto.graph.initializer if len(i.dims) > 1)
    assert kinds == {onnx.TensorProto.INT8: sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules())}
    integers = {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}
    assert min(v.min() for n, v in integers.items() if n.endswith(".integers")) >= -127


def test_int8_file_agrees_with_its_simulation(digits, int8):
    model, artifact = int8
    x = digits.inputs(digits.split("test").x)
    with torch.inference_mode():
        expected = model(x).numpy()
    found = outputs(artifact, x)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.995
    assert sqnr_db(expected, found) > 30


def test_int8_is_smaller_and_says_what_it_computes(int8, baseline):
    size = int8[1].manifest.files["model.onnx"].bytes
    assert size < 0.5 * baseline.manifest.files["model.onnx"].bytes
    assert "int8 weights" in int8[1].manifest.computes
    assert baseline.manifest.computes == "float32"
    assert int8[1].manifest.notes == ()


def test_the_manifest_tells_where_the_artifact_comes_from(digits, int8, baseline):
    manifest = int8[1].manifest
    assert manifest.recipe == "Int8()"
    assert manifest.task_fingerprint == digits.fingerprint
    assert manifest.lineage == (baseline.manifest.id,)
    assert manifest.records[0].technique == "Int8()"
    assert manifest.versions["torch"] and manifest.license == digits.license
    assert manifest.model == "resnet8(width=0.5, shape=(1, 8, 8), classes=10)"


def test_a_loaded_model_goes_on_as_it_was(digits, int8):
    model, artifact = int8
    x = digits.inputs(digits.split("test").x[:64])
    with torch.inference_mode():
        assert torch.equal(load(artifact.folder).model()(x), model.eval()(x))


def test_exporters_metadata_is_stripped(baseline):
    proto = onnx.load(baseline.folder / "model.onnx")
    assert not proto.metadata_props and not proto.functions and not proto.graph.value_info
    assert all(not n.metadata_props and not n.doc_string for n in proto.graph.node)
    weights = sum(np.prod(i.dims) * 4 for i in proto.graph.initializer)
    assert (baseline.folder / "model.onnx").stat().st_size < 1.1 * weights + 4096


def test_negative_and_dead_batch_norm_channels_fold_exactly(digits, trained, tmp_path):
    model = digits.copy(trained)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    with torch.no_grad():
        norms[0].weight[0] *= -1
        norms[1].weight[1] = 0.0
    changed, _ = catalog.recipe("Int8()").apply(model, digits)
    artifact = pack(changed, digits, tmp_path / "out", recipe="Int8()")
    x = digits.inputs(digits.split("test").x[:200])
    with torch.inference_mode():
        assert sqnr_db(changed(x).numpy(), outputs(artifact, x)) > 30


def test_a_file_that_computes_something_else_is_refused_by_layer(digits, trained, tmp_path, monkeypatch):
    store = exporting.store

    def spoil(graph, paths, weight, *, dynamic):
        # the float initializer still holds the right values, so only the stored integers are wrong
        wrong = weight._replace(values=-weight.values) if paths[0] == "features.stage2.0.body.0.conv" else weight
        store(graph, paths, wrong, dynamic=dynamic)

    changed, _ = catalog.recipe("Int8()").apply(trained, digits)
    paths = [p for p, m in changed.named_modules() if isinstance(m, nn.Conv2d)]
    assert "features.stage2.0.body.0.conv" in paths, paths
    monkeypatch.setattr(exporting, "store", spoil)
    with pytest.raises(Disagreement, match=r"same class.*SQNR.*worst layer 'features\.stage2\.0\.body\.0") as caught:
        pack(changed, digits, tmp_path / "out", recipe="Int8()")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_wins_no_bytes_is_told_so(digits, trained, baseline, tmp_path):
    changed, _ = catalog.recipe("MagnitudePrune(sparsity=0.03)").apply(trained, digits)
    artifact = pack(changed, digits, tmp_path / "pruned", recipe="MagnitudePrune(sparsity=0.03)", parent=baseline)
    assert artifact.manifest.sparse == ()
    assert "no smaller on disk" in artifact.manifest.notes[0] and "too few" in artifact.manifest.notes[0]
    same = pack(trained, digits, tmp_path / "same", recipe="Finetune(epochs=0)", parent=baseline)
    assert same.manifest.notes[0].startswith("no-op")


def test_a_flipped_byte_is_found(baseline, tmp_path):
    copied = _copied(baseline, tmp_path)
    data = bytearray((copied / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (copied / "weights.safetensors").write_bytes(data)
    with pytest.raises(BadArtifact, match=r"weights\.safetensors was altered"):
        load(copied)


def test_a_missing_file_is_named(baseline, tmp_path):
    copied = _copied(baseline, tmp_path)
    (copied / "model.onnx").unlink()
    with pytest.raises(BadArtifact, match=r"model\.onnx is missing"):
        load(copied)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m | {"format": 99}, "format 99"),
        (lambda m: m | {"surprise": 1}, "cannot be read"),
        (lambda m: m | {"files": {"../x": m["files"]["model.onnx"]}}, "outside its folder"),
    ],
)
def test_a_wrong_manifest_is_refused(baseline, tmp_path, change, says):
    copied = _copied(baseline, tmp_path)
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(change(manifest)))
    with pytest.raises(BadArtifact, match=says):
        load(copied)


def test_folders_that_are_no_artifact_and_pickles_are_refused(tmp_path):
    with pytest.raises(BadArtifact, match=r"has no manifest\.json"):
        load(tmp_path)
    torch.save(nn.Linear(2, 2), tmp_path / "model.pt")
    with pytest.raises(BadArtifact, match=r"pickled checkpoint can run code.*--weights"):
        load(tmp_path / "model.pt")


def test_an_existing_folder_is_never_overwritten(digits, trained, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(BadArtifact, match="exists already"):
        pack(trained, digits, tmp_path / "mine")


def test_what_a_killed_process_left_goes_with_the_next_call(digits, trained, tmp_path):
    """Of the same folder only, and not what a running process writes."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    names = {
        "killed": f".a.{dead.pid}.unfinished", "running": f".a.{running.pid}.unfinished",
        "own": f".a.{os.getpid()}.unfinished", "other": f".b.{dead.pid}.unfinished", "no": ".a.x.unfinished",
    }  # fmt: skip
    for name in names.values():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_bytes(b"half")
    pack(trained, digits, tmp_path / "a")
    running.communicate(b"\n")
    assert {f.name for f in tmp_path.iterdir()} == {"a", names["running"], names["other"], names["no"]}


def test_a_full_disk_leaves_nothing(digits, trained, tmp_path, monkeypatch):
    def full(model, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.modules["lessen.artifact.pack"], "save_model", full)
    with pytest.raises(DiskFull, match="the disk is full"):
        pack(trained, digits, tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_real_write_limit_leaves_nothing(tmp_path):
    program = """
import resource, sys
from lessen.tasks import task
from lessen.artifact import pack
from lessen.core.errors import LessenError
from pathlib import Path
digits = task("digits"); model = digits.build("cnn").eval()
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    pack(model, digits, Path(sys.argv[1]) / "out")
except LessenError as e:
    print(e)
"""
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "the disk is full" in run.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_sequential_of_known_layers_needs_no_builder(digits, tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()
    artifact = pack(model, digits, tmp_path / "own")
    x = digits.inputs(digits.split("test").x[:16])
    with torch.inference_mode():
        assert torch.equal(artifact.model()(x), model(x))


def test_a_model_that_cannot_be_described_says_how_to_name_it(digits, tmp_path):
    class Mine(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :10]

    with pytest.raises(BadArtifact, match=r"Mine.*package\.module:function"):
        pack(Mine(), digits, tmp_path / "own")


@pytest.fixture
def linear():
    return nn.Sequential(nn.Linear(3, 2))


def test_weights_of_a_user_come_from_tensors_alone(linear, tmp_path):
    value = torch.full((2, 3), 2.0)
    torch.save({"state_dict": {"module.0.weight": value, "module.0.bias": torch.zeros(2)}}, tmp_path / "a.pt")
    assert torch.equal(state.load_weights(linear, tmp_path / "a.pt")[0].weight, value)


def test_pickled_weights_need_trust(linear, tmp_path):
    torch.save(nn.Sequential(nn.Linear(3, 2)), tmp_path / "whole.pt")
    with pytest.raises(BadArtifact, match="--trust-pickle"):
        state.load_weights(linear, tmp_path / "whole.pt")
    state.load_weights(linear, tmp_path / "whole.pt", trust_pickle=True)


def test_unfit_and_broken_weights_are_told_in_one_line(linear, tmp_path):
    torch.save({"0.weight": torch.zeros(5, 5)}, tmp_path / "odd.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    for name, says in (
        ("odd.pt", "does not fit"),
        ("broken.safetensors", "cannot be read"),
        ("no.pt", "does not exist"),
    ):
        with pytest.raises(BadArtifact, match=says) as caught:
            state.load_weights(linear, tmp_path / name)
        assert "\n" not in str(caught.value)


def _copied(artifact, tmp_path):
    import shutil

    return shutil.copytree(artifact.folder, tmp_path / "copy")
