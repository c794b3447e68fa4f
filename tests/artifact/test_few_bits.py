"""Weights of few bits in the file: truly packed, exact, in the kernels that bytes would run in, in both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lessen import catalog, models
from lessen.artifact import encodings, forms, narrow, pack
from lessen.artifact import export as exporting
from lessen.artifact.fidelity import sqnr_db
from lessen.artifact.runtimes import RUNTIMES, open_session
from lessen.measure import sizes
from lessen.ops import layers

RNG = np.random.default_rng(0)
UNPACKING = {"Cast", "Div", "Mod", "Gather", "Slice", "Concat", "CumSum"}


# --- codes


@pytest.mark.parametrize("code", narrow.CODES, ids=lambda c: c.name)
@pytest.mark.parametrize("count", [1, 7, 64])
def test_codes_lose_nothing(code: narrow.Code, count: int) -> None:
    values = drawn(code, (count,))
    packed = narrow.initializer(code, values, "w")
    if code.width < 4:
        found = code.unpack(numpy_helper.to_array(packed), count)
        assert len(packed.raw_data) == -(-count * code.width // 8)
    else:
        found = (numpy_helper.to_array(packed).astype(np.int16) * code.step).astype(code.dtype)
        assert len(packed.raw_data) == -(-count // 2)
    np.testing.assert_array_equal(found, values)
    fewest = narrow.narrowest(values)
    assert fewest is not None and fewest.width <= code.width


def test_bits_by_hand() -> None:
    assert narrow.Code(2, True).pack(np.array([-1, 0, 1, 2, 1], np.int8)).tolist() == [0b11100100, 0b10]
    assert narrow.Code(2, True, 64).pack(np.array([-64, 64], np.int8)).tolist() == [0b1000]
    packed = narrow.initializer(narrow.Code(4, True), np.array([[-8, 7, 1]], np.int8), "w")
    assert list(packed.raw_data) == [0x78, 0x01] and list(packed.dims) == [1, 3]


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([-1, 1], "i1x1"), ([-64, 64], "i1x64"), ([0, 1], "u1x1"), ([-1, 0, 1], "i2x1"), ([0, 64, -64], "i2x64"),
        ([0, 3], "u2x1"), ([-7, 7], "i4x1"), ([-56, 8, 0], "i4x8"), ([-48, 48], "i4x8"), ([0, 15], "u4x1"),
        ([8, 120], "u4x8"), ([-100, 3], None), ([0, 200], None),
    ],
)  # fmt: skip
def test_the_fewest_bits_are_found(values: list[int], name: str | None) -> None:
    dtype = np.uint8 if values[-1] == 200 or (name or "i").startswith("u") else np.int8
    found = narrow.narrowest(np.array(values, dtype))
    assert (found.name if found else None) == name


@pytest.mark.parametrize("bits", range(2, 9))
def test_stretched_integers_fit_their_bytes_and_two_products_fit_16_bits(bits: int) -> None:
    factor, top = encodings.stretch(bits), 2 ** (bits - 1) - 1
    assert top * factor <= max(64, top) and (bits == 8 or top * 2 * factor > 64) and factor & (factor - 1) == 0
    assert bits >= 7 or 2 * 255 * top * factor < 2**15


# --- files


def network(**weights: np.ndarray) -> onnx.ModelProto:
    """y = x times each weight (bytes, cast to float), one after another."""
    nodes, last, weight = [], "x", list(weights.values())[-1]
    for name in weights:
        nodes.append(helper.make_node("Cast", [name], [f"{name}.float"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("MatMul", [last, f"{name}.float"], [last := f"{name}.out"]))
    shapes = ["n", next(iter(weights.values())).shape[0]], ["n", weight.shape[-1]]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def drawn(code: narrow.Code, shape: tuple[int, ...], zeros: float = 0.0) -> np.ndarray:
    low, high = np.iinfo(code.dtype).min, np.iinfo(code.dtype).max
    first, between = code.line
    levels = [v for v in first + between * np.arange(2**code.width) if low <= v <= high]
    return np.where(RNG.random(shape) < zeros, 0, RNG.choice(levels, shape)).astype(code.dtype)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("zeros", [0.0, 0.85])
def test_every_code_runs_as_its_bytes_do(tmp_path: Path, runtime: str, zeros: float) -> None:
    codes = {c.name: drawn(c, (61 if i else 67, 61), zeros) for i, c in enumerate(narrow.CODES)}
    model = network(**codes)
    x = (RNG.integers(-1, 2, (3, 67)) * (RNG.random((3, 67)) < 0.1)).astype("f4")
    answers = []
    for name in ("bytes", "packed"):
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, tmp_path / f"{name}.onnx")
        session = open_session([tmp_path / f"{name}.onnx"], runtime)
        answers.append((session.run(x), session.operators()))
        kept = dict(forms.weights(model))
        assert all(np.array_equal(kept[k], v) and kept[k].dtype == v.dtype for k, v in codes.items()), name
        done = forms.shrink(model)
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    assert answers[0][1] == answers[1][1]
    assert not done and (tmp_path / "packed.onnx").stat().st_size < 0.75 * (tmp_path / "bytes.onnx").stat().st_size


def test_a_table_is_made_only_where_it_pays() -> None:
    small = network(a=drawn(narrow.Code(2, True), (9, 9)))
    before = small.SerializeToString()
    assert not forms.shrink(small) and small.SerializeToString() == before
    large = network(a=drawn(narrow.Code(2, True), (90, 90)))
    assert forms.shrink(large).bits == {"a": 2}
    assert len(large.SerializeToString()) < 90 * 90 / 4 + 1200


def test_signs_and_a_bitmask_are_fewer_bytes_than_two_bits() -> None:
    weight = drawn(narrow.Code(1, True), (200, 200), zeros=0.7)
    model = network(a=weight)
    done = forms.shrink(model)
    assert done.bits == {"a": 1} and done.sparse[0].nonzeros == (weight != 0).sum()
    assert done.sparse[0].bytes < 200 * 200 * (1 + 0.32) / 8 + 900


@pytest.mark.parametrize("recipe", ["Int4()", "Int4(levels='log')", "Int4(group=64, activations='float')"])
def test_a_vgg_11_in_4_bits_is_at_most_14_percent_of_its_float_file(recipe: str) -> None:
    check_vgg(recipe, "vgg11(width=0.5)", 0.14)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "most"),
    [("Int4()", 0.14), ("Int4(levels='log')", 0.14), ("Int4(group=64, activations='float')", 0.14),
     ("Int3()", 0.14), ("Int2()", 0.08),
     ("Float16()", 0.51), ("Int8()", 0.26)],
)  # fmt: skip
def test_a_whole_vgg_11(recipe: str, most: float) -> None:
    check_vgg(recipe, "vgg11", most)


def check_vgg(recipe: str, text: str, most: float) -> None:
    """Sizes alone: the net is not trained, and its ranges are not calibrated."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = layers.own(models.build(text).eval())
    sample = torch.zeros(1, 3, 32, 32)
    before = len(exporting.export(model, sample).proto.SerializeToString())
    technique = catalog.recipe(recipe).steps[0]
    bits = {"Int8": 8, "Int4": 4, "Int3": 3, "Int2": 2}.get(type(technique).__name__)
    for layer in layers.weighted(model).values():
        half = layers.HalfQuantizer("float16")
        kind = layers.LogWeights if getattr(technique, "levels", "") == "log" else layers.WeightQuantizer
        layer.wq = kind.fitting(layer, bits, group=getattr(technique, "group", 0)) if bits else half
    if bits and getattr(technique, "activations", 8) == 8:
        for layer in layers.sites(model).values():
            if isinstance(layer, nn.ReLU):
                layer.oq = layers.ActivationQuantizer.covering(torch.tensor(0.0), torch.tensor(1.0))
        next(iter(layers.weighted(model).values())).iq = layers.ActivationQuantizer.covering(*torch.tensor([-1.0, 1]))
    proto = exporting.export(model, sample).proto
    forms.shrink(proto)
    assert len(proto.SerializeToString()) <= most * before


# --- books: few values of any kind

LEVELS = {
    "powers": np.array([0, *(s << k for k in range(7) for s in (1, -1))], np.int8),
    "four": np.array([-128, 3, 5, 127], np.int8),
    "two": np.array([7, 200], np.uint8),
    "floats": np.array([-0.0, 0.0, 1.5, -3e-9, np.pi, 7e8], np.float32),
    "halves": np.array([-0.0, 1.5, 0.1, 65504], np.float16),
}


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("count", [1, 7, 64])
def test_books_lose_nothing(kind: str, count: int) -> None:
    values = RNG.choice(LEVELS[kind], (count,))
    (book,) = narrow.books([LEVELS[kind]])
    assert book.width == {2: 1, 4: 2}.get(len(LEVELS[kind]), 4) and narrow.fewest(LEVELS[kind], [book]) == book
    packed = numpy_helper.to_array(narrow.initializer(book, values, "w"))
    found = book.values()[packed.astype(np.uint8)] if book.width == 4 else book.unpack(packed, count)
    assert found.dtype == values.dtype and found.tobytes() == values.tobytes()  # -0.0 too
    assert len(narrow.initializer(book, values, "w").raw_data) == -(-count * book.width // 8)


def test_layers_share_a_book_where_their_values_fit_one() -> None:
    powers = LEVELS["powers"]
    books = narrow.books(
        [powers[:9], powers[3:], LEVELS["floats"], np.arange(17, dtype=np.int8), np.arange(-8, 8)[:, None].astype("i1")]
    )
    assert [(b.width, set(b.values().tolist()) == set(powers.tolist())) for b in books] == [(4, True), (4, False)]
    assert narrow.books([np.array([-1, 0, 1, 1], np.int8)]) == [], "a code holds these in as few bits"
    assert narrow.fewest(powers, []) is None


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("zeros", [0.0, 0.85])
def test_books_run_as_their_values_do(tmp_path: Path, runtime: str, zeros: float) -> None:
    kinds = [LEVELS["powers"], LEVELS["four"], LEVELS["powers"], np.array([0.5, -0.25, 2, 1e-3], np.float32)]
    weights = {}
    for i, levels in enumerate(kinds):
        shape = (61 if i else 67, 61)
        chosen = np.where(RNG.random(shape) < zeros, 0, RNG.choice(levels, shape))
        weights[f"w{i}"] = chosen.astype(levels.dtype)
    model = network(**weights)
    x = (RNG.integers(-1, 2, (3, 67)) * (RNG.random((3, 67)) < 0.1)).astype("f4")
    answers = []
    for name in ("values", "packed"):
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, tmp_path / f"{name}.onnx")
        session = open_session([tmp_path / f"{name}.onnx"], runtime)
        answers.append((session.run(x), session.operators()))
        kept = dict(forms.weights(model))
        assert all(np.array_equal(kept[k], v) and kept[k].dtype == v.dtype for k, v in weights.items()), name
        done = forms.shrink(model)
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    assert answers[0][1] == answers[1][1] and not done
    assert (tmp_path / "packed.onnx").stat().st_size < 0.75 * (tmp_path / "values.onnx").stat().st_size


def test_a_book_is_made_only_where_it_pays() -> None:
    few = RNG.choice(LEVELS["powers"], (5, 5))
    small = network(a=few)
    before = small.SerializeToString()
    assert not forms.shrink(small) and small.SerializeToString() == before
    large = network(a=few, b=RNG.choice(np.arange(-7, 8, dtype=np.int8), (5, 900)))
    assert forms.shrink(large).bits == {"b": 4}
    assert forms.shrink(network(a=RNG.choice(LEVELS["powers"], (90, 90)))).bits == {"a": 4}


# --- trained nets


@pytest.fixture(scope="module")
def packed(digits, trained, baseline, tmp_path_factory):
    """Artifacts of the trained net by recipe, each packed once."""
    folder, known = tmp_path_factory.mktemp("few"), {}

    def artifact(recipe: str):
        if recipe not in known:
            model, records = catalog.recipe(recipe).apply(trained, digits)
            made = pack(model, digits, folder / str(len(known)), recipe=recipe, records=records, parent=baseline)
            known[recipe] = model, made
        return known[recipe]

    return artifact


@pytest.mark.parametrize("recipe", ["Int8()", "Int4()", "Int4(levels='log')", "Int2(symmetric=False)"])
def test_quantized_activations_run_in_integer_kernels_throughout(packed, recipe: str) -> None:
    model, artifact = packed(recipe)
    counts = open_session(artifact.runnable).operators()
    convolutions = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert (counts["QLinearConv"], counts["QGemm"], counts["QLinearAdd"]) == (convolutions, 1, 3)
    assert not {"Conv", "FusedConv", "Gemm", "BatchNormalization"} & set(counts) and not UNPACKING & set(counts)


@pytest.mark.parametrize("recipe", ["Int4(group=16, activations='float')", "Int4(activations='float')", "BFloat16()"])
def test_float_activations_fold_at_load_and_agree_to_the_last_digits(packed, recipe: str) -> None:
    _, artifact = packed(recipe)
    counts = open_session(artifact.runnable).operators()
    assert counts["Conv"] == 9 and not (UNPACKING | {"Mul", "Sub", "DequantizeLinear"}) & set(counts)
    assert artifact.manifest.fidelity.sqnr_db > 100 and artifact.manifest.fidelity.agreement == 1.0


RECIPES = {
    "Int4()": "int8 weights and uint8 activations in 10 of 10 weighted operators, float32 between; stored in 4 bits in",
    "Int4(activations=4)": "int8 weights and uint8 activations in 10 of 10",
    "Int4(levels='log')": "int8 weights and uint8 activations in 10 of 10 weighted operators",
    "Int3(levels='log', group=20, activations='float')": "float32 from integer weights, unpacked at load, in 10 of 10",
    "Int4(group=16, activations='float')": "float32 from integer weights, unpacked at load, in 10 of 10, ",
    "Int4(group=20, symmetric=False, activations='float')": "float32 from integer weights, unpacked at load",
    "Int2(symmetric=False)": "stored in 2 bits in",
    "DynamicInt8()": "int8 weights and activations quantized at every call in 1 of 10, float32 between",
    "Float16()": "float32 from float16 weights, unpacked at load, in 10 of 10",
    "BFloat16()": "float32 from bfloat16 weights",
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_file_agrees_is_smaller_and_says_what_computes_it(digits, packed, baseline, recipe: str) -> None:
    model, artifact = packed(recipe)
    assert RECIPES[recipe] in artifact.manifest.computes
    assert artifact.manifest.files["model.onnx"].bytes < baseline.manifest.files["model.onnx"].bytes
    assert artifact.manifest.notes == ()
    assert sizes.contradictions(artifact.runnable, artifact.manifest.cost) == ()
    x = digits.inputs(digits.split("test").x[:300])
    with torch.inference_mode():
        expected = model.eval()(x).numpy()
    least = {"DynamicInt8()": 60, "Int4(activations=4)": 12}.get(recipe, 30 if "float" not in recipe else 90)
    for runtime in RUNTIMES:
        found = open_session(artifact.runnable, runtime).run(x.numpy())
        assert sqnr_db(expected, found) > min(least, 30 if runtime == "openvino" else least), runtime


def test_four_bit_activations_are_clipped_as_integers(packed) -> None:
    counts = open_session(packed("Int4(activations=4)")[1].runnable).operators()
    assert counts["QLinearConv"] == 9 and counts["QGemm"] == 1 and counts["Clip"] >= 10


def test_dynamic_layers_run_in_the_runtimes_dynamic_kernel(packed) -> None:
    counts = open_session(packed("DynamicInt8()")[1].runnable).operators()
    assert counts["DynamicQuantizeMatMul"] == 1 and counts["Conv"] == 9


@pytest.mark.parametrize(
    "recipe",
    ["Int4()", "Int4(levels='log')", "Int4(group=24, symmetric=False, activations='float')", "DynamicInt8()",
     "Int4(levels='log', activations='float') >> DynamicInt8()"],
)  # fmt: skip
def test_transposed_weights_of_a_transformer(digits, tmp_path: Path, recipe: str) -> None:
    with digits.seeded(0):
        model = digits.build("vit(width=0.25, depth=1, patch=4)").eval()
    changed, _ = catalog.recipe(recipe).apply(model, digits)
    exported = exporting.export(digits.copy(changed), torch.zeros(1, 1, 8, 8))
    forms.shrink(exported.proto)
    onnx.save(exported.proto, tmp_path / "model.onnx")
    x = digits.inputs(digits.split("test").x[:64])
    with torch.inference_mode():
        expected = changed.eval()(x).numpy()
    for runtime in RUNTIMES:
        assert sqnr_db(expected, open_session([tmp_path / "model.onnx"], runtime).run(x.numpy())) > 25, runtime
    counted = digits.cost(changed)
    assert sizes.contradictions([tmp_path / "model.onnx"], counted) == ()


def test_a_cut_after_groups_is_packed_with_the_group_of_each_column(digits, trained, tmp_path: Path) -> None:
    recipe = "Int4(group=20, activations='float') >> ChannelPrune(ratio=0.3)"
    model, records = catalog.recipe(recipe).apply(trained, digits)
    assert any(m.wq.columns is not None for m in layers.weighted(model).values())
    artifact = pack(model, digits, tmp_path / "out", recipe=recipe, records=records)
    assert artifact.manifest.fidelity.sqnr_db > 100
    x = digits.inputs(digits.split("test").x[:50])
    with torch.inference_mode():
        assert torch.equal(artifact.model()(x), model.eval()(x))
