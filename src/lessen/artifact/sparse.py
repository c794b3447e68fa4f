"""Weights with many exact zeros as one bit a weight and the values that are not zero, unpacked by the runtime at load.

Each value's place is the running count of bits. The file rebuilds the dense tensor from constants alone, so a runtime
folds the whole chain once and then runs the same kernels as from a dense file, integer ones included.

Traps met here: OpenVINO folds neither BitShift, BitwiseAnd nor CumSum of integers, and then runs an int8 convolution
in float, so bits come from a table and are counted in float32, which is exact below 2**24. Zeros read a zero that
leads the values: multiplying by the bit would need a kernel for int8 and make zeros negative.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.artifact.manifest import SparseWeight

if TYPE_CHECKING:
    import onnx

MOST_VALUES = 2**24 - 1  # float32 counts no further
WORTH = 0.95  # of a weight's dense bytes: a smaller gain is not worth the time to unpack it
PARTS = ("bits", "values", "shape")
CONSTANTS = {
    "z.bytes": np.arange(256, dtype=np.uint8).reshape(-1, 1),
    "z.powers": 2 ** np.arange(8, dtype=np.int32),
    "z.two": np.array(2, np.int32),
    "z.flat": np.array([-1], np.int64),
    "z.axis": np.array(0, np.int64),
    "z.start": np.array([0], np.int64),
}


@dataclass(frozen=True)
class Packed:
    """A weight's parts: bit i of byte j says whether value 8 j + i of the flat weight is not zero."""

    bits: np.ndarray  # (ceil(n / 8),) uint8
    values: np.ndarray  # (1 + k,): a zero, then the k values that are not zero, in order
    shape: np.ndarray  # int64

    @classmethod
    def of(cls, weight: np.ndarray) -> Packed:
        """Pack a dense weight of any shape.

        >>> Packed.of(np.array([[0, 5, 0], [7, 0, 0]], np.int8))
        Packed(bits=array([10], dtype=uint8), values=array([0, 5, 7], dtype=int8), shape=array([2, 3]))
        """
        flat = weight.reshape(-1)
        alive = flat != 0
        values = np.concatenate([np.zeros(1, weight.dtype), flat[alive]])
        return cls(np.packbits(alive, bitorder="little"), values, np.array(weight.shape, np.int64))

    def dense(self) -> np.ndarray:
        """The weight again, exactly."""
        size = int(self.shape.prod())
        alive = np.unpackbits(self.bits, count=size, bitorder="little")
        return self.values[np.cumsum(alive) * alive].reshape(self.shape)


def shrink(model: onnx.ModelProto, worth: float = WORTH) -> tuple[SparseWeight, ...]:
    """Give every weight of `model` the sparse form that gets smaller by it, in place; says which and by how much.

    Weights are initializers of two axes or more, float or int8. Bytes are those of the file: data, names and nodes;
    the sparse form is taken where it needs at most `worth` of the dense ones, and none where nothing is won in all.
    """
    from onnx import numpy_helper

    graph = model.graph
    shared, nodes = _shared()
    kept, added, saved = [], [], []
    for initializer in graph.initializer:
        if len(initializer.dims) > 1 and initializer.data_type in _types():
            packed = Packed.of(numpy_helper.to_array(initializer))
            tensors, steps = _unpacking(packed, initializer.name, len(saved))
            before, after = _bytes(initializer), _bytes(*tensors, *steps)
            if after <= worth * before and len(packed.values) <= MOST_VALUES:
                added += tensors
                nodes += steps
                saved.append(_described(initializer.name, packed, after, before))
                continue
        kept.append(initializer)
    if sum(s.dense_bytes - s.bytes for s in saved) <= _bytes(*shared, *_table()):
        return ()
    old = list(graph.node)
    for field, content in (("initializer", (*shared, *added, *kept)), ("node", (*nodes, *old))):
        graph.ClearField(field)
        getattr(graph, field).extend(content)
    return tuple(saved)


def weights(model: onnx.ModelProto, folder: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Name and dense values of every weight (two axes or more) in a file, whichever form it has."""
    from onnx import numpy_helper

    values = {i.name: numpy_helper.to_array(i, folder) for i in model.graph.initializer}
    for node in model.graph.node:
        prefix, _, last = node.input[-1].rpartition(".") if node.input else ("", "", "")
        if (last, node.op_type) == ("shape", "Reshape") and all(f"{prefix}.{part}" in values for part in PARTS):
            yield node.output[0], Packed(*(values[f"{prefix}.{part}"] for part in PARTS)).dense()
    for name, value in values.items():
        if value.ndim > 1 and name not in CONSTANTS:
            yield name, value


def _types() -> set[int]:
    from onnx import TensorProto

    return {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8}


def _described(name: str, packed: Packed, after: int, before: int) -> SparseWeight:
    layer = name.removesuffix(".integers").removesuffix(".weight")
    count = len(packed.values) - 1
    return SparseWeight(layer=layer, weights=int(packed.shape.prod()), nonzeros=count, bytes=after, dense_bytes=before)


def _table() -> list[onnx.NodeProto]:
    """Nodes that make (256, 8) float32: the bits of every byte, the lowest first."""
    from onnx import TensorProto, helper

    return [
        helper.make_node("Cast", ["z.bytes"], ["z.0"], to=TensorProto.INT32),
        helper.make_node("Div", ["z.0", "z.powers"], ["z.1"]),
        helper.make_node("Mod", ["z.1", "z.two"], ["z.2"]),
        helper.make_node("Cast", ["z.2"], ["z.table"], to=TensorProto.FLOAT),
    ]


def _shared() -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    from onnx import numpy_helper

    return [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()], _table()


def _unpacking(packed: Packed, name: str, number: int) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """The parts as initializers, and the nodes that make the dense `name` of them."""
    from onnx import TensorProto, helper, numpy_helper

    prefix = f"z{number}"  # short: a layer's whole path in every name would cost as much as the nodes
    bits, values, shape = (f"{prefix}.{part}" for part in PARTS)
    tensors = [numpy_helper.from_array(getattr(packed, part), f"{prefix}.{part}") for part in PARTS]
    nodes: list[onnx.NodeProto] = []

    def step(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"{prefix}.{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    alive = step("Gather", "z.table", step("Cast", bits, to=TensorProto.INT32))
    alive = step("Reshape", alive, "z.flat")
    size = int(packed.shape.prod())
    if size % 8:
        tensors.append(numpy_helper.from_array(np.array([size], np.int64), f"{prefix}.size"))
        alive = step("Slice", alive, "z.start", f"{prefix}.size")
    place = step("Mul", step("CumSum", alive, "z.axis"), alive)
    dense = step("Gather", values, step("Cast", place, to=TensorProto.INT32))
    nodes.append(helper.make_node("Reshape", [dense, shape], [name]))
    return tensors, nodes


def _bytes(*messages: onnx.TensorProto | onnx.NodeProto) -> int:
    """What they take in the file: each has a tag of one byte and its length as a varint before it."""
    sizes = [m.ByteSize() for m in messages]
    return sum(1 + max(1, -(-size.bit_length() // 7)) + size for size in sizes)
