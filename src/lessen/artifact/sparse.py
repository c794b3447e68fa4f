"""Weights with many exact zeros as one bit a weight and the values that are not zero, unpacked by the runtime at load.

Each value's place is the running count of bits. The file rebuilds the dense tensor from constants alone, so a runtime
folds the whole chain once and then runs the same kernels as from a dense file, integer ones included.

Traps met here: OpenVINO folds neither BitShift, BitwiseAnd nor CumSum of integers, and then runs an int8 convolution
in float, so bits come from a table and are counted in float32, which is exact below 2**24. Zeros read a zero that
leads the values: multiplying by the bit would need a kernel for int8 and make zeros negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.artifact import narrow

if TYPE_CHECKING:
    import onnx

MOST_VALUES = 2**24 - 1  # float32 counts no further
CONSTANTS = {
    "~.bytes": np.arange(256, dtype=np.uint8).reshape(-1, 1),
    "~.powers": 2 ** np.arange(8, dtype=np.int32),
    "~.two": np.array(2, np.int32),
    "~.axis": np.array(0, np.int64),
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


def table() -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Initializers, and nodes that make (256, 8) float32 of them: the bits of every byte, the lowest first."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["~.bytes"], ["~.0"], to=TensorProto.INT32),
        helper.make_node("Div", ["~.0", "~.powers"], ["~.1"]),
        helper.make_node("Mod", ["~.1", "~.two"], ["~.2"]),
        helper.make_node("Cast", ["~.2"], ["~.table"], to=TensorProto.FLOAT),
    ]
    return [numpy_helper.from_array(value, name) for name, value in CONSTANTS.items()], nodes


def unpacking(packed: Packed, code: narrow.Code | narrow.Book | None, name: str, prefix: str) -> list[Any]:
    """The parts as initializers, and the nodes that make the dense `name` of them; the values in bits of `code`."""
    from onnx import NodeProto, TensorProto, helper, numpy_helper

    found: list[Any] = [
        numpy_helper.from_array(packed.bits, f"{prefix}.bits"), numpy_helper.from_array(packed.shape, f"{prefix}.shape")
    ]  # fmt: skip

    def step(kind: str, *inputs: str, **attributes: Any) -> str:
        count = sum(isinstance(f, NodeProto) for f in found)
        found.append(helper.make_node(kind, inputs, [f"{prefix}.{count}"], **attributes))
        return found[-1].output[0]

    alive = step("Gather", "~.table", step("Cast", f"{prefix}.bits", to=TensorProto.INT32))
    alive = step("Reshape", alive, "~.flat")
    size = int(packed.shape.prod())
    if size % 8:
        found.append(numpy_helper.from_array(np.array([size], np.int64), f"{prefix}.size"))
        alive = step("Slice", alive, "~.start", f"{prefix}.size")
    place = step("Mul", step("CumSum", alive, "~.axis"), alive)
    values = f"{prefix}.values"
    if code is None:
        found.append(numpy_helper.from_array(packed.values, values))
    else:  # the zero that leads the values stands apart: a code of signs has none
        stored, count = f"{values}.{code.name}", len(packed.values) - 1
        found.append(narrow.initializer(code, packed.values[1:], stored))
        found += narrow.bytes_of(code, stored, count, f"{prefix}.alive")
        found.append(numpy_helper.from_array(packed.values[:1], f"{prefix}.zero"))
        values = step("Concat", f"{prefix}.zero", f"{prefix}.alive", axis=0)
    dense = step("Gather", values, step("Cast", place, to=TensorProto.INT32))
    found.append(helper.make_node("Reshape", [dense, f"{prefix}.shape"], [name]))
    return found
