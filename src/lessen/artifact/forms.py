"""The form in which each weight takes the fewest bytes of the file: as it is, in fewer bits (narrow.py), without its
zeros (sparse.py), or both; whatever takes few distinct values is codes into a table. All of them are constants that the
runtime unpacks once, at load, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.artifact import narrow, sparse
from lessen.artifact.manifest import SparseWeight

if TYPE_CHECKING:
    import onnx

WORTH = 0.95  # of a weight's bytes without its zeros left out: a smaller gain is not worth the time to unpack it
# A name that begins with ~ is of this package: no path of a layer does, and names are bytes of the file.
SHARED = {"~.flat": np.array([-1], np.int64), "~.start": np.array([0], np.int64)}
LARGE = 1000  # values
LEAST_OPSET = 21  # of 4-bit initializers


@dataclass
class Shrunk:
    """Weights without their zeros, and the bits of a value of each layer that is stored in codes."""

    sparse: list[SparseWeight] = field(default_factory=list)
    bits: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.sparse or self.bits)


@dataclass(frozen=True)
class _Form:
    """Initializers and nodes in place of one initializer."""

    parts: list[Any]
    code: narrow.Code | narrow.Book | None = None
    packed: sparse.Packed | None = None


def shrink(model: onnx.ModelProto, worth: float = WORTH, *, without_zeros: bool = True) -> Shrunk:
    """Give every weight of `model` its smallest form, in place.

    Weights are initializers of two axes or more, float or bytes. Bytes are those of the file: data, names and nodes.
    Zeros are left out where that needs at most `worth` of the bytes of the smallest form with them; tables that all
    layers share are made only where what they save together is more than their own bytes.
    """
    for tables in (True, False):
        books = _paying(model, worth, without_zeros) if tables else []
        chosen = _choose(model, worth, without_zeros and tables, tables, books)
        saved = sum(_bytes(i) - _bytes(*f.parts) for i, f in chosen)
        if saved > _bytes(*_shared([f for _, f in chosen])):
            return _replace(model, chosen)
    return Shrunk()


def weights(model: onnx.ModelProto, folder: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Name and dense values of every weight (two axes or more) in a file, whichever form it has, zero where it is."""
    from onnx import numpy_helper

    values = {i.name: numpy_helper.to_array(i, folder) for i in model.graph.initializer}
    transposed = {
        n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear" and any(a.i == 1 for a in n.attribute)
    }
    for name, value in (*_unpacked(model, values), *values.items()):
        if value.ndim > 1 and not name.startswith("~"):
            layer, _, last = name.rpartition(".")
            zero = values.get(f"{layer}.zero") if last == "integers" else None
            if zero is None or not zero.any():
                yield name, value
            elif name in transposed:
                yield name, value.astype(np.int16) - zero
            else:
                yield name, _centered(value, zero, values.get(f"{layer}.columns"))


def _unpacked(model: onnx.ModelProto, values: dict[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    for node in model.graph.node:
        source = node.input[-1] if node.input else ""
        prefix = source.partition(".")[0]
        if not prefix.startswith("~") or node.output[0].startswith("~"):
            continue
        if node.op_type in ("Cast", "Gather"):  # 4 bits keep their shape
            name = next(n for n in values if n.startswith(f"{prefix}.dense."))
            yield node.output[0], _wide(values, name)
        elif node.op_type == "Reshape" and f"{prefix}.bits" in values:
            bits, shape, alive = values[f"{prefix}.bits"], values[source], int(_count(values[f"{prefix}.bits"]))
            kept = values.get(f"{prefix}.values")
            if kept is None:
                kept = np.concatenate([values[f"{prefix}.zero"], _coded(values, f"{prefix}.values.", alive)])
            yield node.output[0], sparse.Packed(bits, kept, shape).dense()
        elif node.op_type == "Reshape":
            shape = values[source]
            yield node.output[0], _coded(values, f"{prefix}.dense.", int(shape.prod())).reshape(shape)


def _coded(values: dict[str, np.ndarray], start: str, count: int) -> np.ndarray:
    """The flat values of the initializer whose name is `start` and its code's."""
    name, packed = next((k, v) for k, v in values.items() if k.startswith(start) and not k.endswith(".size"))
    code = narrow.named(name.rpartition(".")[2], values)
    return _wide(values, name) if code.width == 4 else code.unpack(packed, count)


def _wide(values: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Values of an initializer of 4 bits."""
    code = narrow.named(name.rpartition(".")[2], values)
    if isinstance(code, narrow.Book):
        return code.values()[values[name].astype(np.uint8)]
    return (values[name].astype(np.int16) * code.step).astype(code.dtype)


def _count(bits: np.ndarray) -> int:
    return int(np.unpackbits(bits).sum())


def _centered(value: np.ndarray, zero: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
    """Integers minus their zero points, one for each row, or for each group of its columns."""
    rows = value.astype(np.int16).reshape(len(value), -1)
    zeros = zero.astype(np.int16).reshape(len(value), -1)
    columns = np.arange(rows.shape[1]) // (rows.shape[1] // zeros.shape[1]) if columns is None else columns
    return (rows - zeros[:, columns]).reshape(value.shape)


def _dense_weights(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, np.ndarray]]:
    """Initializers that may take another form, and their values."""
    from onnx import TensorProto, numpy_helper

    kinds = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT8, TensorProto.UINT8}
    for initializer in model.graph.initializer:
        if len(initializer.dims) > 1 and initializer.data_type in kinds:
            yield initializer, numpy_helper.to_array(initializer)


def _paying(model: onnx.ModelProto, worth: float, without_zeros: bool) -> list[narrow.Book]:
    """The books that save more than they take; a small weight makes none, as few of its values repeat."""
    large = (value for _, value in _dense_weights(model) if value.size >= LARGE)
    books = narrow.books(large) if _takes_codes(model) else []
    if not books:
        return []
    found = [{i.name: f for i, f in _choose(model, worth, without_zeros, True, b)} for b in (books, [])]
    saved = dict.fromkeys(books, 0)
    for initializer, _ in _dense_weights(model):
        with_books, without = (forms.get(initializer.name, _Form([initializer])) for forms in found)
        if isinstance(with_books.code, narrow.Book):
            saved[with_books.code] += _bytes(*without.parts) - _bytes(*with_books.parts)
    return [b for b in books if saved[b] > _bytes(*(part for parts in b.table() for part in parts))]


def _choose(
    model: onnx.ModelProto, worth: float, without_zeros: bool, tables: bool, books: list[narrow.Book]
) -> list[tuple[onnx.TensorProto, _Form]]:
    """Each weight that has a smaller form, and that form."""
    chosen: list[tuple[onnx.TensorProto, _Form]] = []
    for initializer, value in _dense_weights(model):
        prefix, forms = f"~{len(chosen)}", [_Form([initializer])]
        code = narrow.fewest(value, books) if _takes_codes(model) else None
        if code is not None and (tables or code.width == 4):
            forms.append(_dense(value, code, initializer.name, prefix))
        best = min(forms, key=lambda f: _bytes(*f.parts))
        packed = sparse.Packed.of(value) if without_zeros else None
        if packed is not None and len(packed.values) <= sparse.MOST_VALUES:
            own = None if code is None else narrow.fewest(packed.values[1:], books)
            form = _Form(sparse.unpacking(packed, own, initializer.name, prefix), own, packed)
            best = form if _bytes(*form.parts) <= worth * _bytes(*best.parts) else best
        if best is not forms[0]:
            chosen.append((initializer, best))
    return chosen


def _takes_codes(model: onnx.ModelProto) -> bool:
    """GroupNormalization changed with opset 21, and a file with it keeps its own."""
    return not any(n.op_type == "GroupNormalization" for n in model.graph.node) or _opset(model).version >= LEAST_OPSET


def _dense(value: np.ndarray, code: narrow.Code | narrow.Book, name: str, prefix: str) -> _Form:
    from onnx import helper, numpy_helper

    stored = f"{prefix}.dense.{code.name}"
    parts: list[Any] = [narrow.initializer(code, value, stored)]
    if code.width == 4:
        return _Form([*parts, *narrow.bytes_of(code, stored, value.size, name)], code)
    parts += narrow.bytes_of(code, stored, value.size, f"{prefix}.flat")
    parts.append(numpy_helper.from_array(np.array(value.shape, np.int64), f"{prefix}.shape"))
    return _Form([*parts, helper.make_node("Reshape", [f"{prefix}.flat", f"{prefix}.shape"], [name])], code)


def _shared(forms: list[_Form]) -> list[Any]:
    """Tables that these forms read, and constants that they have in common."""
    from onnx import numpy_helper

    every = {f.code for f in forms if f.code is not None}
    coded = {code for code in every if code.width < 4 or isinstance(code, narrow.Book)}
    steps = sorted({code.step for code in every if isinstance(code, narrow.Code) and code in narrow.STEPS})
    found: list[Any] = [numpy_helper.from_array(np.array(n, np.int32), f"~.step{n}") for n in steps]
    if any(code.width < 4 for code in coded) or any(f.packed for f in forms):
        found += [numpy_helper.from_array(v, k) for k, v in SHARED.items()]
    for tensors, nodes in [sparse.table()] * any(f.packed for f in forms) + [
        c.table() for c in sorted(coded, key=lambda c: (c.width, c.name))
    ]:
        found += [*tensors, *nodes]
    return found


def _replace(model: onnx.ModelProto, chosen: list[tuple[onnx.TensorProto, _Form]]) -> Shrunk:
    from onnx import NodeProto, TensorProto

    done, graph, gone = Shrunk(), model.graph, {i.name for i, _ in chosen}
    for initializer, form in chosen:
        layer = initializer.name.removesuffix(".integers").removesuffix(".half").removesuffix(".weight")
        if form.code is not None:
            done.bits[layer] = form.code.width
        if form.packed is not None:
            done.sparse.append(_described(layer, form, initializer))
    parts = [*_shared([f for _, f in chosen]), *(p for _, f in chosen for p in f.parts)]
    initializers = [p for p in parts if isinstance(p, TensorProto)] + [
        i for i in graph.initializer if i.name not in gone
    ]
    nodes = [p for p in parts if isinstance(p, NodeProto)] + list(graph.node)
    for name, content in (("initializer", initializers), ("node", nodes)):
        graph.ClearField(name)
        getattr(graph, name).extend(content)
    if any(f.code is not None and f.code.width == 4 for _, f in chosen):
        _opset(model).version = max(_opset(model).version, LEAST_OPSET)
    return done


def _described(layer: str, form: _Form, dense: onnx.TensorProto) -> SparseWeight:
    assert form.packed is not None
    count, size = len(form.packed.values) - 1, int(form.packed.shape.prod())
    return SparseWeight(layer=layer, weights=size, nonzeros=count, bytes=_bytes(*form.parts), dense_bytes=_bytes(dense))


def _opset(model: onnx.ModelProto) -> onnx.OperatorSetIdProto:
    return next(o for o in model.opset_import if o.domain in ("", "ai.onnx"))


def _bytes(*messages: Any) -> int:
    """What they take in the file: each has a tag of one byte and its length as a varint before it."""
    sizes = [m.ByteSize() for m in messages]
    return sum(1 + max(1, -(-size.bit_length() // 7)) + size for size in sizes)
