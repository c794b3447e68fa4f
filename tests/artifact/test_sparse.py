"""Zeros take a bit in the file, nothing at run time: exact weights, the same operators, in both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from lessen import catalog
from lessen.artifact import export as exporting
from lessen.artifact import pack
from lessen.artifact.forms import shrink, weights
from lessen.artifact.runtimes import RUNTIMES, OnnxRuntime, open_session
from lessen.artifact.sparse import CONSTANTS, Packed
from lessen.measure import sizes

RNG = np.random.default_rng(0)
RECIPES = {"float": "MagnitudePrune(sparsity=0.9)", "int8": "MagnitudePrune(sparsity=0.9) >> Int8()"}
UNPACKING = {"Cast", "Div", "Mod", "CumSum", "Mul", "Gather", "Slice", "BitShift", "BitwiseAnd"}


def test_parts_worked_out_by_hand() -> None:
    packed = Packed.of(np.array([[0, 5, 0], [-7, 0, 0], [0, 0, 9]], np.int8))
    assert packed.bits.tolist() == [0b00001010, 0b1]  # the lowest bit is the first weight
    assert packed.values.tolist() == [0, 5, -7, 9]
    assert packed.shape.tolist() == [3, 3]


@pytest.mark.parametrize("shape", [(4, 2, 3, 3), (3, 5), (8, 8), (1, 1)])
@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
def test_packing_loses_nothing(shape: tuple[int, ...], share: float, dtype: type) -> None:
    weight = sparse_weight(shape, share, dtype)
    again = Packed.of(weight).dense()
    assert again.dtype == weight.dtype
    np.testing.assert_array_equal(again, weight)


def sparse_weight(shape: tuple[int, ...], share: float, dtype: type) -> np.ndarray:
    weight = (RNG.choice([-1, 1], shape) * RNG.integers(1, 100, shape)).astype(dtype)
    weight.reshape(-1)[RNG.permutation(weight.size)[: round(share * weight.size)]] = 0
    return weight


def network(**weights: np.ndarray) -> onnx.ModelProto:
    """y = x times each weight, one after another."""
    nodes, last, weight = [], "x", np.zeros(1)
    for name, weight in weights.items():
        kind = numpy_helper.from_array(weight, name)
        if kind.data_type != TensorProto.FLOAT:
            nodes.append(helper.make_node("Cast", [name], [f"{name}.float"], to=TensorProto.FLOAT))
        read = name if kind.data_type == TensorProto.FLOAT else f"{name}.float"
        nodes.append(helper.make_node("MatMul", [last, read], [last := f"{name}.out"]))
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", next(iter(weights.values())).shape[0]])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", weight.shape[-1]])],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_type_and_a_size_that_fills_no_byte(tmp_path: Path, runtime: str) -> None:
    model = network(
        a=sparse_weight((37, 41), 0.8, np.float32), b=sparse_weight((41, 39), 0.8, np.float16),
        c=sparse_weight((39, 43), 0.8, np.int8), d=np.zeros((43, 64), np.float32),
    )  # fmt: skip
    x = RNG.normal(size=(5, 37)).astype("f4")
    answers, kept = [], []
    for name in ("dense", "sparse"):
        kept.append(dict(weights(model)))
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, tmp_path / f"{name}.onnx")
        session = open_session([tmp_path / f"{name}.onnx"], runtime)
        answers.append((session.run(x), session.operators()))
        saved = shrink(model)
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    assert answers[0][1] == answers[1][1]
    assert set(kept[0]) == set(kept[1]) == set("abcd")
    assert all(np.array_equal(kept[0][name], kept[1][name]) for name in "abcd")
    assert not saved  # nothing is packed twice


def test_bytes_are_those_of_the_file() -> None:
    model = network(a=sparse_weight((300, 100), 0.9, np.float32), b=sparse_weight((100, 50), 0.5, np.int8))
    dense = len(model.SerializeToString())
    saved = shrink(model)
    shared = sum(i.ByteSize() for i in model.graph.initializer if i.name in CONSTANTS)
    assert [(s.layer, s.weights, s.nonzeros) for s in saved.sparse] == [("a", 30_000, 3_000), ("b", 5_000, 2_500)]
    won = dense - len(model.SerializeToString())
    assert 0 < sum(s.dense_bytes - s.bytes for s in saved.sparse) - won - shared < 300  # the shared nodes
    assert saved.sparse[0].bytes == pytest.approx(30_000 / 8 + 4 * 3_001, abs=600)
    assert saved.sparse[1].bytes == pytest.approx(5_000 / 8 + 2_501, abs=600)


@pytest.mark.parametrize(
    ("weight", "sparse"),
    [
        (sparse_weight((200, 200), 0.10, np.float32), True),  # 1/8 byte of 4 for the bits: 3.1 % and the margin of 5 %
        (sparse_weight((200, 200), 0.05, np.float32), False),
        (sparse_weight((200, 200), 0.22, np.int8), True),  # 1/8 byte of 1: 12.5 % and the margin
        (sparse_weight((200, 200), 0.15, np.int8), False),
        (sparse_weight((10, 10), 0.9, np.float32), False),  # too small for its nodes
        (np.zeros(4000, np.float32), False),  # a bias
    ],
)
def test_the_smaller_form_is_chosen(weight: np.ndarray, sparse: bool) -> None:
    model = network(a=weight)
    before = model.SerializeToString()
    assert bool(shrink(model)) == sparse
    assert (len(model.SerializeToString()) < len(before)) if sparse else (model.SerializeToString() == before)


# --- packed nets -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cnn(digits):
    """More than 100,000 weights; batch norm has seen the data."""
    with digits.seeded(0):
        model = digits.build("cnn(width=1.1)")
    with torch.no_grad():
        model.train()(digits.inputs(digits.split("train").x[:256]))
    return model.eval()


@pytest.fixture(scope="module")
def packed(digits, cnn, tmp_path_factory):
    """The plain artifact, and for each kind the sparse and the dense file of the same pruned model."""
    folder = tmp_path_factory.mktemp("sparse")
    made = {"plain": pack(cnn, digits, folder / "plain")}
    for kind, recipe in RECIPES.items():
        model, records = catalog.recipe(recipe).apply(cnn, digits)
        made |= {
            (kind, sparse): pack(model, digits, folder / f"{kind}{sparse}", recipe=recipe, records=records,
                                 parent=made["plain"], sparse=sparse)
            for sparse in (True, False)
        }  # fmt: skip
    return made


def size(artifact) -> int:
    return artifact.manifest.files["model.onnx"].bytes


def test_ninety_percent_sparse_is_a_sixth_of_dense(packed) -> None:
    assert packed["plain"].manifest.cost.parameters > 100_000
    assert size(packed["float", True]) <= 0.16 * size(packed["plain"])
    assert size(packed["int8", True]) <= 0.08 * size(packed["plain"])
    assert size(packed["float", False]) > 0.99 * size(packed["plain"])


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", RECIPES)
def test_the_sparse_file_runs_as_the_dense_one(digits, packed, kind: str, runtime: str) -> None:
    x = digits.inputs(digits.split("test").x[:200]).numpy()
    sparse, dense = (open_session(packed[kind, form].runnable, runtime) for form in (True, False))
    np.testing.assert_array_equal(sparse.run(x), dense.run(x))
    assert sparse.operators() == dense.operators()
    assert not UNPACKING & set(sparse.operators())
    if (kind, runtime) == ("int8", "onnxruntime"):
        assert (sparse.operators()["QLinearConv"], sparse.operators()["QGemm"]) == (3, 1)


@pytest.mark.parametrize("kind", RECIPES)
def test_weights_are_bit_for_bit_those_of_the_dense_file(packed, kind: str) -> None:
    sparse, dense = (
        dict(weights(onnx.load(packed[kind, form].folder / "model.onnx"))) for form in (True, False)
    )  # fmt: skip
    assert set(sparse) == set(dense)
    assert all(np.array_equal(sparse[name], dense[name]) for name in dense)


@pytest.mark.parametrize("kind", RECIPES)
def test_the_manifest_says_which_weights_and_the_bytes_saved(packed, kind: str) -> None:
    artifact, dense = packed[kind, True], packed[kind, False]
    found = artifact.manifest.sparse
    assert {"features.conv2_1.conv", "features.conv3_1.conv", "head"} <= {s.layer for s in found}
    saved = sum(s.dense_bytes - s.bytes for s in found)
    assert 0 <= saved - (size(dense) - size(artifact)) < 800  # what all layers share
    assert artifact.manifest.notes == () and dense.manifest.sparse == ()
    assert artifact.manifest.computes == dense.manifest.computes
    assert artifact.manifest.fidelity == dense.manifest.fidelity


@pytest.mark.parametrize("kind", RECIPES)
def test_claims_are_checked_on_the_unpacked_weights(packed, kind: str) -> None:
    artifact = packed[kind, True]
    cost = artifact.manifest.cost
    assert sizes.contradictions(artifact.runnable, cost) == ()
    false = cost.model_copy(update={"nonzeros": 5_000, "parameters": 90_000})
    assert [note.split(",")[0].split(" ", 4)[4] for note in sizes.contradictions(artifact.runnable, false)] == [
        "weights", "non-zero weights",
    ]  # fmt: skip


def test_a_runtime_that_would_unpack_at_every_call_gets_dense_weights(digits, packed, tmp_path, monkeypatch) -> None:
    operators = OnnxRuntime.operators

    def unfolded(session: OnnxRuntime) -> dict[str, int]:
        packed = any(i.name in CONSTANTS for i in onnx.load(session._file).graph.initializer)
        return operators(session) | ({"CumSum": 3} if packed else {})

    monkeypatch.setattr(OnnxRuntime, "operators", unfolded)
    artifact = pack(packed["float", True].model(), digits, tmp_path / "out")
    assert artifact.manifest.sparse == ()
    assert (artifact.folder / "model.onnx").read_bytes() == packed["float", False].runnable[0].read_bytes()


def test_transposed_weights_are_named_by_their_layer(digits) -> None:
    model = digits.build("vit(width=0.25, depth=1, patch=2)").eval()
    exported = exporting.export(model, torch.zeros(1, 1, 8, 8))
    names = {name for name, _ in weights(exported.proto)}
    assert {"encoders.0.attention.q.weight", "encoders.0.mlp.2.weight", "head.weight"} <= names
    assert not any(name.startswith("val_") for name in names)
