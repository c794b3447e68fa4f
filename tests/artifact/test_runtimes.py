"""Both runtimes run the same file; what cannot run is refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lessen.artifact import runtimes
from lessen.artifact.runtimes import open_session
from lessen.core.errors import BadArtifact, LessenError, UnknownName

RNG = np.random.default_rng(0)
CONV, DENSE = RNG.normal(size=(8, 3, 3, 3)).astype("f4"), RNG.normal(size=(8, 5)).astype("f4")
X = RNG.normal(size=(6, 3, 9, 9)).astype("f4")


def oracle(x: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))  # (n, c, h, w, 3, 3)
    features = np.maximum(np.einsum("nchwij,ocij->nohw", windows, CONV), 0).mean((2, 3))
    return features @ DENSE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Conv - Relu - GlobalAveragePool - Flatten - MatMul, and an Identity that every runtime removes."""
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Conv", ["same", "conv"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "dense"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(CONV, "conv"), numpy_helper.from_array(DENSE, "dense")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
@pytest.mark.parametrize("threads", [1, 2])
def test_outputs_are_the_oracles(file: Path, runtime: str, threads: int) -> None:
    session = open_session([file], runtime, threads)
    for n in (6, 1, 3):  # the batch dimension is free
        np.testing.assert_allclose(session.run(X[:n]), oracle(X[:n]), rtol=1e-4, atol=1e-5)
    assert session.name.split()[0] == runtime
    assert session.name.split()[1][0].isdigit()


@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
def test_an_answer_is_not_overwritten_by_the_next(file: Path, runtime: str) -> None:
    session = open_session([file], runtime)
    first = session.run(X)
    kept = first.copy()
    session.run(-X)
    np.testing.assert_array_equal(first, kept)


def test_operators_are_those_that_run(file: Path, tmp_path: Path) -> None:
    operators = open_session([file]).operators()
    assert operators["Conv"] == 1
    assert operators["MatMul"] == 1
    assert not {"Identity", "Relu"} & set(operators)  # removed, and run inside Conv
    compiled = open_session([file], "openvino").operators()
    assert compiled["Convolution"] == 1
    assert "Const" not in compiled
    assert [f.name for f in tmp_path.iterdir()] == ["model.onnx"]  # the profile is not left behind


def quantized(path: Path) -> Path:
    """A convolution between quantized tensors, as pack writes it: uint8 activations, int8 weights per channel."""

    def scalar(name: str, value: float, dtype: str) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(value, dtype), name)

    scale = (np.abs(CONV).max((1, 2, 3)) / 63).astype("f4")  # no sum of two products leaves 16 bits
    integers = np.round(CONV / scale[:, None, None, None]).astype("i1")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "ys", "xz"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "xz"], ["y"]),
    ]
    tensors = [
        scalar("xs", 0.03, "f4"), scalar("ys", 0.15, "f4"), scalar("xz", 128, "u1"),
        numpy_helper.from_array(integers, "w"), numpy_helper.from_array(scale, "ws"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8, 7, 7])],
        tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.save(model, path)
    return path


def test_integer_kernels_are_shown(tmp_path: Path) -> None:
    file = quantized(tmp_path / "model.onnx")
    ours, theirs = open_session([file]), open_session([file], "openvino")
    assert ours.operators()["QLinearConv"] == 1
    assert "Conv" not in ours.operators()
    assert any(name.startswith("Convolution ") for name in theirs.operators())
    assert np.abs(ours.run(X) - theirs.run(X)).max() <= 0.1501  # one step of the output's scale


@pytest.mark.parametrize("dequantized", ["once", "twice"])
def test_each_reader_of_shared_int8_weights_gets_its_own(tmp_path: Path, dequantized: str) -> None:
    model = onnx.load(quantized(tmp_path / "model.onnx"))
    graph, second = model.graph, "wd"
    if dequantized == "twice":
        graph.node.insert(0, helper.make_node("DequantizeLinear", ["w", "ws"], ["wd2"], axis=0, name="again"))
        second = "wd2"
    graph.node.append(helper.make_node("Conv", ["xd", second], ["c2"]))
    graph.node.append(helper.make_node("Add", ["y", "c2"], ["z"]))
    graph.output[0].name = "z"
    onnx.save(model, tmp_path / "shared.onnx")
    before = open_session([tmp_path / "shared.onnx"]).run(X)
    runtimes.own_weights(model)
    onnx.checker.check_model(model, full_check=True)
    readers = [name for n in graph.node for name in n.input if name.partition(".")[0] == "w"]
    assert len(readers) == len(set(readers)) == 2
    assert len({n.input[1] for n in graph.node if n.op_type == "Conv"}) == 2
    onnx.save(model, tmp_path / "own.onnx")
    np.testing.assert_allclose(open_session([tmp_path / "own.onnx"]).run(X), before, atol=1e-5)


def test_unknown_runtime(file: Path) -> None:
    with pytest.raises(UnknownName, match="unknown runtime 'onnxruntim'; did you mean 'onnxruntime'"):
        open_session([file], "onnxruntim")


@pytest.mark.parametrize(("runtime", "command"), [("openvino", "'lessen[openvino]'"), ("onnxruntime", "'lessen'")])
def test_missing_package_gives_the_pip_command(
    file: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, command: str
) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(LessenError) as caught:
        open_session([file], runtime)
    assert str(caught.value) == f"runtime '{runtime}' is not installed; pip install {command}"


@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
def test_a_file_that_is_no_model(tmp_path: Path, runtime: str) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"\x08\x0a nonsense" * 20)
    with pytest.raises(BadArtifact) as caught:
        open_session([broken], runtime)
    assert str(caught.value).startswith(f"{runtime} cannot run {broken}: ")
    assert "\n" not in str(caught.value)


def test_missing_file_and_missing_model(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match=r"model\.onnx is missing"):
        open_session([tmp_path / "model.onnx"])
    with pytest.raises(BadArtifact, match=r"0 of the runnable files end in \.onnx"):
        open_session([tmp_path / "model.bin"])


def test_nothing_is_sent_or_left_behind(file: Path, tmp_path: Path) -> None:
    """ONNX Runtime's telemetry would leave a session file among the temporary files and a cache at home."""
    home = tmp_path / "home"
    home.mkdir()
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME"), str(home))
    kept = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "CI")}
    script = (
        "import sys, pathlib; from lessen.artifact import runtimes; runtimes.open_session([pathlib.Path(sys.argv[1])])"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], env=kept | places, check=True)
    assert list(home.iterdir()) == []
