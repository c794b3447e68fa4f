"""Values of few levels in 4, 2 or 1 bits each, truly packed, and the constants that make them again.

Four bits are ONNX's INT4 or UINT4, two to a byte. Two bits and one are bytes whose codes come from a table of all 256,
since no runtime folds shifts and masks of bytes everywhere (see sparse.py). The table is made by the file itself.
Integers on a line need no more (`Code`); any other values, floats too, stand once in a `Book` and are gathered from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

        >>> Code(1, True).pack(np.array([1, -1, 1, 1], np.int8))
        array([13], dtype=uint8)
        """
        first, between = self.line
        return _joined(((values.astype(np.int64) - first) // between).astype(np.uint8), self.width)

    def unpack(self, packed: np.ndarray, count: int) -> np.ndarray:
        """The first `count` values again."""
        return self.values()[_apart(packed, self.width)[:count]]

    def table(self) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
        """Initializers and nodes that make `~.<name>`: (256, values of a byte) of the code's type."""
        from onnx import TensorProto

        made = _Table(f"~.{self.name}")
        codes = made.codes(self.width)
        for kind, part, value in zip(("Mul", "Add"), ("between", "first"), self.line[::-1], strict=True):
            if value != (part == "between"):
                codes = made.step(kind, codes, made.add(part, np.array(value, np.int32)))
        made.step("Cast", codes, to=TensorProto.INT8 if self.signed else TensorProto.UINT8)
        return made.done()


class Book(NamedTuple):
    """A value's code is its place among `bits`, the distinct values as whole numbers of their bits, so that -0.0 stays.

    at: which of the file's books it is.
    """

    width: int
    dtype: np.dtype
    bits: tuple[int, ...]
    at: int

    @property
    def name(self) -> str:
        return f"b{self.width}x{self.at}"

    @staticmethod
    def read(name: str, stored: dict[str, np.ndarray]) -> Book:
        """The book of this name from a file's initializers."""
        width, at = name[1:].split("x")
        values = stored[f"~.{name}" if width == "4" else f"~.{name}.values"]
        return Book(int(width), values.dtype, tuple(_bits(values).tolist()), int(at))

    def values(self) -> np.ndarray:
        """In the order of their codes."""
        return np.array(self.bits, f"u{self.dtype.itemsize}").view(self.dtype)

    def codes(self, values: np.ndarray) -> np.ndarray:
        """Of flat values."""
        order = np.argsort(np.array(self.bits))
        return order[np.searchsorted(np.array(self.bits), _bits(values), sorter=order)].astype(np.uint8)

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Flat values -> bytes."""
        return _joined(self.codes(values), self.width)

    def unpack(self, packed: np.ndarray, count: int) -> np.ndarray:
        """The first `count` values again."""
        return self.values()[_apart(packed, self.width)[:count]]

    def table(self) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
        """What makes `~.<name>`: (256, values of a byte), or the values alone where ONNX has the codes' type."""
        made = _Table(f"~.{self.name}")
        if self.width == 4:
            return [made.tensor(f"~.{self.name}", self.values())], []
        made.step("Gather", made.add("values", self.values()), made.codes(self.width))
        return made.done()


class _Table:
    """Initializers and nodes in the making, the last of which gives `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: list[onnx.TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []

    @staticmethod
    def tensor(name: str, value: np.ndarray) -> onnx.TensorProto:
        from onnx import numpy_helper

        return numpy_helper.from_array(value, name)

    def add(self, part: str, value: np.ndarray) -> str:
        self.tensors.append(self.tensor(f"{self.name}.{part}", value))
        return self.tensors[-1].name

    def step(self, kind: str, *inputs: str, **more: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [f"{self.name}.{len(self.nodes)}"], **more))
        return self.nodes[-1].output[0]

    def codes(self, width: int) -> str:
        """(256, codes of a byte) int32."""
        from onnx import TensorProto

        powers = self.add("powers", (2 ** (width * np.arange(8 // width))).astype(np.int32))
        base = self.add("base", np.array(2**width, np.int32))
        codes = self.step("Cast", self.add("bytes", np.arange(256, dtype="u1").reshape(-1, 1)), to=TensorProto.INT32)
        return self.step("Mod", self.step("Div", codes, powers), base)

    def done(self) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
        self.nodes[-1].output[0] = self.name
        return self.tensors, self.nodes


def _joined(codes: np.ndarray, width: int) -> np.ndarray:
    """Codes, the first in the lowest bits of a byte."""
    per = 8 // width
    codes = np.concatenate([codes, np.zeros(-len(codes) % per, np.uint8)]).reshape(-1, per)
    return (codes << (width * np.arange(per, dtype=np.uint8))).sum(1).astype(np.uint8)


def _apart(packed: np.ndarray, width: int) -> np.ndarray:
    return ((packed.reshape(-1, 1) >> (width * np.arange(8 // width, dtype=np.uint8))) & (2**width - 1)).reshape(-1)


def _bits(values: np.ndarray) -> np.ndarray:
    """Each value's bits as a whole number: -0.0 is not 0.0, and a NaN is itself."""
    return np.ascontiguousarray(values).reshape(-1).view(f"u{values.dtype.itemsize}")


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
    """The code of fewest bits that holds all these integers; None where they need their bytes, or are none."""
    if values.dtype not in (np.int8, np.uint8):
        return None
    present = np.unique(values)
    return next((c for c in CODES if c.dtype == values.dtype and np.isin(present, c.values()).all()), None)


def books(weights: Iterable[np.ndarray]) -> list[Book]:
    """Books for all weights that take at most 16 distinct values and that no `Code` holds in as few bits.

    Weights of one type and width share a book where their values fit one together.
    """
    found: list[Book] = []
    for values in weights:
        levels, code = _levels(values), narrowest(values)
        width = next(w for w in (1, 2, 4) if len(levels) <= 2**w) if levels else 8
        if not levels or (code is not None and code.width <= width):
            continue
        fits = (b for b in found if (b.width, b.dtype) == (width, values.dtype) and len({*b.bits, *levels}) <= 2**width)
        book = next(fits, None)
        if book is None:
            found.append(Book(width, values.dtype, levels, len(found)))
        else:
            found[book.at] = book._replace(bits=(*book.bits, *sorted({*levels} - {*book.bits})))
    return found


def _levels(values: np.ndarray, most: int = 16, first: int = 4096) -> tuple[int, ...]:
    """The distinct values' bits where they are at most so many, else nothing; told by the first ones, mostly."""
    bits = _bits(values)
    levels = np.unique(bits) if len(np.unique(bits[:first])) <= most else ()
    return tuple(int(level) for level in levels) if len(levels) <= most else ()


def fewest(values: np.ndarray, books: Sequence[Book]) -> Code | Book | None:
    """The code or book of fewest bits that holds all these values; a code where both have as few."""
    code, levels = narrowest(values), _levels(values) if books else ()
    known = [b for b in books if b.dtype == values.dtype and {*levels} <= {*b.bits}] if levels else []
    book = min(known, key=lambda b: b.width, default=None)
    return code if book is None or (code is not None and code.width <= book.width) else book


def named(name: str, stored: dict[str, np.ndarray]) -> Code | Book:
    """The code or book of this name; a book is read from the file's initializers."""
    return BY_NAME[name] if name in BY_NAME else Book.read(name, stored)


def initializer(code: Code | Book, values: np.ndarray, name: str) -> onnx.TensorProto:
    """Values of any shape, packed; in 4 bits they keep their shape, else they are flat bytes."""
    from onnx import TensorProto, helper, numpy_helper

    if code.width < 4:
        return numpy_helper.from_array(code.pack(values.reshape(-1)), name)
    if isinstance(code, Book):
        kind, low = TensorProto.UINT4, code.codes(values)
    else:
        kind = TensorProto.INT4 if code.signed else TensorProto.UINT4
        low = (values.reshape(-1) // code.step).astype(np.int8).view(np.uint8) & np.uint8(15)
    low = np.concatenate([low, np.zeros(len(low) % 2, np.uint8)])
    return helper.make_tensor(name, kind, values.shape, (low[::2] | (low[1::2] << 4)).tobytes(), raw=True)


def bytes_of(code: Code | Book, name: str, count: int, out: str) -> Iterator[onnx.NodeProto | onnx.TensorProto]:
    """What makes `out`, flat values, of the packed initializer `name`; in 4 bits it keeps the initializer's shape."""
    from onnx import TensorProto, helper, numpy_helper

    if code.width == 4 and isinstance(code, Code):
        kind = TensorProto.INT8 if code.signed else TensorProto.UINT8
        if code in STEPS:
            yield helper.make_node("Cast", [name], [f"{name}.0"], to=TensorProto.INT32)
            yield helper.make_node("Mul", [f"{name}.0", STEPS[code]], [f"{name}.1"])
        yield helper.make_node("Cast", [f"{name}.1" if code in STEPS else name], [out], to=kind)
        return
    yield helper.make_node("Cast", [name], [f"{name}.0"], to=TensorProto.INT32)
    yield helper.make_node("Gather", [f"~.{code.name}", f"{name}.0"], [out if code.width == 4 else f"{name}.1"])
    if code.width == 4:
        return
    whole = count % (8 // code.width) == 0
    yield helper.make_node("Reshape", [f"{name}.1", "~.flat"], [out if whole else f"{name}.2"])
    if not whole:
        yield numpy_helper.from_array(np.array([count], np.int64), f"{name}.size")
        yield helper.make_node("Slice", [f"{name}.2", "~.start", f"{name}.size"], [out])
