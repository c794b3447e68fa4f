"""How a quantized weight stands in the graph, so that the runtime computes fast: the encoding decides, not the bits.

- Its operator reads integers: int8 or uint8 values -> DequantizeLinear per row, which integer kernels take as it is.
- It reads floats: values -> Cast -> Mul by the scales, a chain of constants that runtimes fold at load. A
  DequantizeLinear would run at every call, 4.3 times as slow as float32, and scales of groups have no place in it.
- Its input is quantized at every call: DynamicQuantizeLinear -> MatMulInteger -> Mul by both scales.

Values are written as bytes here; `forms.py` then stores them in fewer bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.core.errors import BadArtifact

if TYPE_CHECKING:
    import onnx

    from lessen.ops.stored import Stored

PASSING = ("Reshape", "Flatten", "Transpose", "MaxPool", "Squeeze", "Unsqueeze", "Identity", "Slice", "Gather")
PRODUCTS = ("Conv", "Gemm", "MatMul")


@dataclass
class Graph:
    """A file in the making: its nodes, and beside each the torch path of the layer that it came from."""

    proto: onnx.ModelProto
    scopes: list[str]

    def add(self, value: Any, name: str) -> str:
        """A new initializer."""
        from onnx import numpy_helper

        self.proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def initializers(self) -> dict[str, onnx.TensorProto]:
        return {i.name: i for i in self.proto.graph.initializer}

    def insert(self, *nodes: onnx.NodeProto, before: int = 0) -> None:
        """New nodes in this order, in front of the node at `before`."""
        for i, node in enumerate(nodes, before):
            self.proto.graph.node.insert(i, node)
            self.scopes.insert(i, "")

    def readers(self, name: str, paths: Sequence[str] = ()) -> list[onnx.NodeProto]:
        """The operators whose weight this is; of a layer at these paths alone, where some are given."""
        nodes = zip(self.proto.graph.node, self.scopes, strict=True)
        return [
            n for n, scope in nodes
            if n.op_type in PRODUCTS and name in n.input[1:2] and (scope in paths or not paths)
        ]  # fmt: skip

    def integer_input(self, node: onnx.NodeProto) -> bool:
        """Whether what the operator multiplies with its weight is made of integers."""
        makers = {n.output[0]: n for n in self.proto.graph.node}
        maker = makers.get(node.input[0])
        while maker is not None and maker.op_type in PASSING:
            maker = makers.get(maker.input[0])
        return maker is not None and maker.op_type == "DequantizeLinear"


def store(graph: Graph, paths: Sequence[str], weight: Stored, *, dynamic: bool) -> None:
    """Replace the float initializer of a layer's weight by its small values and what makes them real again.

    paths: all at which the layer stands; the first is what its parts are called by.
    """
    path = paths[0]
    name, transposed = find(graph, paths, weight.real().numpy())
    readers, own = graph.readers(name), graph.readers(name, paths)
    if 0 < len(own) < len(readers):  # the exporter makes one of equal weights, whichever layers' they are
        name, readers = f"{name}.{path}", own
        for node in own:
            node.input[1] = name
    else:
        graph.proto.graph.initializer.remove(graph.initializers()[name])
    if dynamic and weight.columns is None and weight.zero is None and weight.bits <= 8:
        for reader in readers:
            _multiply_integers(graph, path, weight, reader)
    elif weight.bits <= 8 and weight.columns is None and any(graph.integer_input(r) for r in readers):
        _dequantize(graph, path, name, weight, transposed)
    else:
        _scale_floats(graph, path, name, weight, transposed)


def share(graph: Graph, path: str, other: str) -> None:
    """Of two layers with one weight the second reads the first's small values, where both have the same."""
    initializers = graph.initializers()
    for part in ("integers", "half", "scale", "zero", "columns"):
        kept, gone = initializers.get(f"{path}.{part}"), initializers.get(f"{other}.{part}")
        if kept is None or gone is None or (kept.data_type, kept.dims) != (gone.data_type, gone.dims):
            continue
        if kept.raw_data == gone.raw_data:
            graph.proto.graph.initializer.remove(gone)
            for node in graph.proto.graph.node:
                for i, name in enumerate(node.input):
                    node.input[i] = kept.name if name == gone.name else name


def stretch(bits: int) -> int:
    """The power of two up to which the largest symmetric integer stays within 64.

    Two such products with uint8 fit into 16 bits, which kernels for CPUs without VNNI need.

    >>> [stretch(bits) for bits in (8, 4, 3, 2)]
    [1, 8, 16, 64]
    """
    top = max(1, 2 ** (bits - 1) - 1)
    return 1 << max(0, (64 // top).bit_length() - 1)


def find(graph: Graph, paths: Sequence[str], value: np.ndarray) -> tuple[str, bool]:
    """The initializer that holds a weight's float values, and whether the exporter transposed it."""
    from onnx import numpy_helper

    initializers = graph.initializers()
    for node, scope in zip(graph.proto.graph.node, graph.scopes, strict=True):
        for name in node.input[1:2] if scope in paths and node.op_type in PRODUCTS else ():
            found = numpy_helper.to_array(initializers[name]) if name in initializers else None
            if found is not None and (np.array_equal(found, value) or np.array_equal(found, value.T)):
                return name, not np.array_equal(found, value)
    if f"{paths[0]}.weight" in initializers:
        return f"{paths[0]}.weight", False
    raise BadArtifact(f"the exporter lost the weight of '{paths[0]}', so its integers cannot be stored")


def _dequantize(graph: Graph, path: str, name: str, weight: Stored, transposed: bool) -> None:
    """Integers and one DequantizeLinear with a scale for every row.

    Integers of few levels are stretched, and the scale made as much finer: the same weights, exactly. The runtime
    rounds a bias to multiples of input scale x weight scale: at 4 bits that turned 27 % of the values behind the last
    block of a ResNet-8 by a step.
    """
    from onnx import helper

    factor = stretch(weight.bits)
    values, scale = weight.values.numpy() * factor, weight.scale.numpy() / np.float32(factor)
    zero = np.zeros(len(scale), values.dtype) if weight.zero is None else weight.zero.numpy() * factor
    parts = [
        graph.add(values.T if transposed else values, f"{path}.integers"),
        graph.add(scale, f"{path}.scale"), graph.add(zero, f"{path}.zero"),
    ]  # fmt: skip
    graph.insert(helper.make_node("DequantizeLinear", parts, [name], axis=1 if transposed else 0))
    _store_bias(graph, path, name, scale)


def _store_bias(graph: Graph, path: str, weight: str, scale: np.ndarray) -> None:
    """A Gemm runs in integers only when its bias is int32 at scale (input x weight) too; convolutions need no help."""
    from onnx import helper, numpy_helper

    initializers, nodes = graph.initializers(), graph.proto.graph.node
    input_scale = {n.output[0]: n.input[1] for n in nodes if n.op_type == "DequantizeLinear"}
    for node in nodes:
        fits = node.op_type == "Gemm" and weight in node.input[1:2] and len(node.input) == 3
        if not (fits and node.input[0] in input_scale and node.input[2] in initializers):
            continue
        steps = numpy_helper.to_array(initializers[input_scale[node.input[0]]]) * scale
        bias = np.round(numpy_helper.to_array(initializers[node.input[2]]).astype(np.float64) / steps)
        bias = np.clip(bias, -(2**31) + 1, 2**31 - 1).astype(np.int32)
        parts = [graph.add(bias, f"{path}.bias_integers"), graph.add(steps.astype(np.float32), f"{path}.bias_scale")]
        node.input[2] = f"{path}.bias_real"
        graph.insert(helper.make_node("DequantizeLinear", parts, [node.input[2]], axis=0))
        return


def _scale_floats(graph: Graph, path: str, name: str, weight: Stored, transposed: bool) -> None:
    """Cast, subtract the zero point, multiply by the scale of the row or the group: constants, folded at load.

    Scales of groups are bfloat16: they are what a group costs.
    """
    from onnx import TensorProto, helper

    nodes: list[onnx.NodeProto] = []

    def step(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"{path}.{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def shaped(value: str, *shape: int) -> str:
        axes = graph.add(np.array(shape, np.int64), f"{path}.shape{len(nodes)}")
        return step("Reshape", value, axes)

    def parameter(part: str, value: np.ndarray) -> str:
        """A scale or zero point as it broadcasts: flat in the file, since only weights have two axes there."""
        if value.ndim == 1:
            return shaped(graph.add(value, f"{path}.{part}"), -1, *[1] * (weight.values.dim() - 1))
        flat = graph.add(_bfloat16(value.reshape(-1)), f"{path}.{part}")
        flat = step("Cast", flat, to=TensorProto.FLOAT)
        return shaped(flat, -1, 1) if regular else step("Gather", shaped(flat, *value.shape), columns, axis=1)

    kind = "half" if weight.bits > 8 else "integers"
    real = step("Cast", graph.add(_numpy(weight), f"{path}.{kind}"), to=TensorProto.FLOAT)
    regular, columns = True, ""
    if weight.columns is not None:
        group = _group(weight)
        regular = group > 0
        if not regular:
            index = weight.columns.numpy()
            index = graph.add(index.astype(np.uint8 if index.max() < 256 else np.int32), f"{path}.columns")
            columns = step("Cast", index, to=TensorProto.INT32)
        real = shaped(real, *((-1, group) if regular else (len(weight.values), -1)))
    if weight.zero is not None:
        real = step("Sub", real, parameter("zero", weight.zero.float().numpy()))
    if bool((weight.scale != 1).any()):
        real = step("Mul", real, parameter("scale", weight.scale.numpy()))
    if weight.columns is not None:
        real = shaped(real, *weight.values.shape)
    if weight.gain is not None:
        real = step("Mul", real, parameter("gain", weight.gain.numpy()))
    if transposed:
        real = step("Transpose", real, perm=[1, 0])
    nodes[-1].output[0] = name
    graph.insert(*nodes)


def _group(weight: Stored) -> int:
    """Columns of a group where all groups are equally long and in order, else 0."""
    assert weight.columns is not None
    n, groups = len(weight.columns), weight.scale.shape[1]
    expected = np.arange(n) // max(1, n // groups)
    return n // groups if n % groups == 0 and np.array_equal(weight.columns.numpy(), expected) else 0


def _numpy(weight: Stored) -> np.ndarray:
    import torch

    half = weight.values.dtype == torch.bfloat16
    return _bfloat16(weight.values.float().numpy()) if half else weight.values.numpy()


def _bfloat16(values: np.ndarray) -> np.ndarray:
    import ml_dtypes  # comes with onnx: NumPy has no bfloat16 of its own

    return values.astype(ml_dtypes.bfloat16)


def _multiply_integers(graph: Graph, path: str, weight: Stored, reader: onnx.NodeProto) -> None:
    """The Linear as a product of integers, its input's scale and zero point found at every call."""
    from onnx import TensorProto, helper

    at = list(graph.proto.graph.node).index(reader)
    scope = graph.scopes[at]
    known = graph.initializers()
    names = {part: f"{path}.x_{part}" for part in ("integers", "scale", "zero", "sum", "float", "scales")}
    if f"{path}.integers" not in known:
        graph.add(weight.values.numpy().T, f"{path}.integers")
        graph.add(weight.scale.numpy(), f"{path}.scale")
    else:  # a layer that stands twice
        names = {part: f"{name}.{at}" for part, name in names.items()}
    bias = reader.input[2] if reader.op_type == "Gemm" and len(reader.input) == 3 else ""
    out = f"{names['float']}.scaled" if bias else reader.output[0]
    nodes = [
        helper.make_node("DynamicQuantizeLinear", [reader.input[0]], [names[k] for k in ("integers", "scale", "zero")]),
        helper.make_node("MatMulInteger", [names["integers"], f"{path}.integers", names["zero"]], [names["sum"]]),
        helper.make_node("Cast", [names["sum"]], [names["float"]], to=TensorProto.FLOAT),
        helper.make_node("Mul", [names["scale"], f"{path}.scale"], [names["scales"]]),
        helper.make_node("Mul", [names["float"], names["scales"]], [out]),
    ]
    if bias:
        nodes.append(helper.make_node("Add", [out, bias], [reader.output[0]]))
    del graph.proto.graph.node[at], graph.scopes[at]
    graph.insert(*nodes, before=at)
    graph.scopes[at + len(nodes) - 1] = scope
