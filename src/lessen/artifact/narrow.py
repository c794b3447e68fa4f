"""Integers of few levels in 4, 2 or 1 bits each, truly packed, and the constants that make bytes of them again.

Four bits are ONNX's INT4 or UINT4, two to a byte. Two bits and one are bytes whose codes come from a table of all 256,
since no runtime folds shifts and masks of bytes everywhere (see sparse.py). The table is made by the file itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import onnx


class Code(NamedTuple):
    """value = step * (low + code), codes of `width` bits, the first value in the lowest bits of a byte.

    One signed bit is the signs: -step and step.
    """

    width: int
    signed: bool
    step: int = 1

    @property
    def name(self) -> str:
        """Of the table, and in names of initializers."""
        return f"{'i' if self.signed else 'u'}{self.width}x{self.step}"

    @property
    def dtype(self) -> type[np.int8] | type[np.uint8]:
        return np.int8 if self.signed else np.uint8

    @property
    def line(self) -> tuple[int, int]:
        """value = first + between * code."""
        if self.signed and self.width == 1:
            return -self.step, 2 * self.step
        return -self.step * {1: 1, 2: 1, 4: 8}[self.width] if self.signed else 0, self.step

    def values(self) -> np.ndarray:
        first, between = self.line
        return (first + between * np.arange(2**self.width)).astype(self.dtype)  # what does not fit is not used

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Flat values -> bytes.

        >>> SIGNS.pack(np.array([1, -1, 1, 1], np.int8))
        array([13], dtype=uint8)
        """
        per, (first, between) = 8 // self.width, self.line
        codes = ((values.astype(np.int64) - first) // between).astype(np.uint8)
        codes = np.concatenate([codes, np.zeros(-len(codes) % per, np.uint8)]).reshape(-1, per)
        return (codes << (self.width * np.arange(per, dtype=np.uint8))).sum(1).astype(np.uint8)

    def unpack(self, packed: np.ndarray, count: int) -> np.ndarray:
        """The first `count` values again."""
        shifts = self.width * np.arange(8 // self.width, dtype=np.uint8)
        codes = (packed.reshape(-1, 1) >> shifts) & (2**self.width - 1)
        return self.values()[codes.reshape(-1)[:count]]

    def table(self) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
        """Initializers and nodes that make `~.<name>`: (256, values of a byte) of the code's type."""
        from onnx import TensorProto, helper, numpy_helper

        p = f"~.{self.name}"
        powers = (2 ** (self.width * np.arange(8 // self.width))).astype(np.int32)
        constants = {"powers": powers, "base": np.array(2**self.width, np.int32), "bytes": np.arange(256, dtype="u1")}
        numbers = dict(zip(("first", "between"), self.line, strict=True))
        constants |= {k: np.array(v, np.int32) for k, v in numbers.items() if v != (k == "between")}
        tensors = [numpy_helper.from_array(v.reshape(-1, 1) if k == "bytes" else v, f"{p}.{k}")
                   for k, v in constants.items()]  # fmt: skip
        nodes: list[onnx.NodeProto] = []

        def step(kind: str, *inputs: str, **more: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [f"{p}.{len(nodes)}"], **more))
            return nodes[-1].output[0]

        codes = step("Cast", f"{p}.bytes", to=TensorProto.INT32)
        codes = step("Mod", step("Div", codes, f"{p}.powers"), f"{p}.base")
        for kind, part in (("Mul", "between"), ("Add", "first")):
            if part in constants:
                codes = step(kind, codes, f"{p}.{part}")
        step("Cast", codes, to=TensorProto.INT8 if self.signed else TensorProto.UINT8)
        nodes[-1].output[0] = p
        return tensors, nodes


SIGNS = Code(1, True)
CODES = tuple(
    Code(width, signed, step)
    # steps as encodings.stretch makes them; 3 bits in steps of 16 fit 4 bits in steps of 8
    for width, steps in ((1, (1, 64)), (2, (1, 64)), (4, (1, 8)))
    for step in steps
    for signed in (True, False)
)
BY_NAME = {code.name: code for code in CODES}
STEPS = {code: f"~.step{code.step}" for code in CODES if code.width == 4 and code.step > 1}


def narrowest(values: np.ndarray) -> Code | None:
    """The code of fewest bits that holds all these integers; None where they need their bytes."""
    present = np.unique(values)
    return next((c for c in CODES if c.dtype == values.dtype and np.isin(present, c.values()).all()), None)


def initializer(code: Code, values: np.ndarray, name: str) -> onnx.TensorProto:
    """Values of any shape, packed; in 4 bits they keep their shape, else they are flat bytes."""
    from onnx import TensorProto, helper, numpy_helper

    if code.width < 4:
        return numpy_helper.from_array(code.pack(values.reshape(-1)), name)
    kind = TensorProto.INT4 if code.signed else TensorProto.UINT4
    low = (values.reshape(-1) // code.step).astype(np.int8).view(np.uint8) & np.uint8(15)
    low = np.concatenate([low, np.zeros(len(low) % 2, np.uint8)])
    return helper.make_tensor(name, kind, values.shape, (low[::2] | (low[1::2] << 4)).tobytes(), raw=True)


def bytes_of(code: Code, name: str, count: int, out: str) -> Iterator[onnx.NodeProto | onnx.TensorProto]:
    """What makes `out`, flat bytes, of the packed initializer `name`; in 4 bits it keeps the initializer's shape."""
    from onnx import TensorProto, helper, numpy_helper

    if code.width == 4:
        kind = TensorProto.INT8 if code.signed else TensorProto.UINT8
        if code in STEPS:
            yield helper.make_node("Cast", [name], [f"{name}.0"], to=TensorProto.INT32)
            yield helper.make_node("Mul", [f"{name}.0", STEPS[code]], [f"{name}.1"])
        yield helper.make_node("Cast", [f"{name}.1" if code in STEPS else name], [out], to=kind)
        return
    yield helper.make_node("Cast", [name], [f"{name}.0"], to=TensorProto.INT32)
    yield helper.make_node("Gather", [f"~.{code.name}", f"{name}.0"], [f"{name}.1"])
    whole = count % (8 // code.width) == 0
    yield helper.make_node("Reshape", [f"{name}.1", "~.flat"], [out if whole else f"{name}.2"])
    if not whole:
        yield numpy_helper.from_array(np.array([count], np.int64), f"{name}.size")
        yield helper.make_node("Slice", [f"{name}.2", "~.start", f"{name}.size"], [out])
