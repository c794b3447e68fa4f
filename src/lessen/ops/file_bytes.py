"""How many bytes will the packed file have? Counted from the model alone, so that bits can be chosen for a budget.

Weights, their scales and the nodes that unpack them are counted as protobuf writes them; other nodes by kind, from
what the exporter writes for them. Nothing is exported: `artifact/` does that, and its files are the test of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from lessen.ops import layers
from lessen.ops.graph import flat_readers, norm_pairs, quantizer_places, trace

HEAD = 97  # opset, input, output
PAIR = 195  # QuantizeLinear, DequantizeLinear, their scale and zero point
CLIP = 55  # activations of fewer than 8 bits
NAME = 18  # a quantized tensor's name is so much longer, wherever it is read
AXIS, TO = 13, 11  # attributes
APART = 73  # in codes the zero stands apart from the values that are not
SPARSE = 0.95  # of the dense bytes, from which on zeros are left out (artifact/forms.py)
TABLES = {"zeros": 533, "1": 668, "2": 617, "step": 16, "book": 30}  # made once for all layers unpacked through them
NODES: dict[type[nn.Module], int] = {
    layers.ReLU: 26, layers.ReLU6: 60, layers.SiLU: 60, layers.GELU: 50, layers.Sigmoid: 28, layers.Add: 36,
    layers.Mul: 36, layers.Cat: 60, layers.MaxPool2d: 170, layers.AvgPool2d: 150, layers.AdaptiveAvgPool2d: 112,
    layers.BatchNorm2d: 190, layers.LayerNorm: 102, nn.Flatten: 80,
}  # fmt: skip
FUNCTIONS = {"transpose": 46, "flatten": 60, "unflatten": 60, "matmul": 42, "mul": 56, "mean": 94}
OTHER = 80  # any other operation: its node, and a small constant


class Size(NamedTuple):
    """Bytes of one layer in the file, and the tables that it needs beside them."""

    bytes: int
    tables: frozenset[str] = frozenset()


def total(fixed: int, sizes: Sequence[Size]) -> int:
    """Bytes of the whole file: each table is there once."""
    return fixed + sum(s.bytes for s in sizes) + sum(TABLES[t] for t in frozenset().union(*(s.tables for s in sizes)))


def of_model(model: nn.Module) -> int:
    """Bytes of the file that a model of our layers will be packed into, as it stands."""
    integer, normed, flat = in_integers(model), set(norm_pairs(model).values()), flat_readers(model)
    weighted = layers.weighted(model).items()
    return total(
        fixed(model),
        [of_layer(p, m, m.wq, integer=integer, normed=p in normed, flat=p in flat) for p, m in weighted],
    )


def of_float32(model: nn.Module) -> int:
    """Bytes of the file of the same model with float32 weights and activations."""
    weighted = layers.weighted(model).items()
    return total(fixed(model, 0), [of_layer(p, m, None, integer=False, normed=False) for p, m in weighted])


def in_integers(model: nn.Module) -> bool:
    """Whether activations are quantized."""
    return any(isinstance(m, layers.ActivationQuantizer) for m in model.modules())


def of_layer(
    path: str, layer: layers.Conv2d | layers.Linear, quantizer: Any, *, integer: bool, normed: bool, flat: bool = True
) -> Size:
    """A layer's weight with this quantizer (None is float32).

    integer: its input is quantized. normed: a batch norm will be folded into it, which gives halves a scale. flat: a
    Linear's input has two axes; where it has more, the file multiplies and adds the bias as floats, even in integers.
    """
    weight, name = layer.weight, len(path)
    out, n, dims = len(weight), weight.numel(), tuple(weight.shape)
    bits = getattr(quantizer, "stored_bits", 32)
    effective = weight.detach() if layer.mask is None else weight.detach() * layer.mask
    effective = effective if bits == 32 else quantizer(effective).detach()
    living = int(torch.count_nonzero(effective))
    symmetric = getattr(quantizer, "zero", None) is None
    codes = _codes(quantizer, bits, integer)
    found = _values(name, dims, n, bits, living if symmetric else n, symmetric, codes)
    extra = 0
    if bits <= 8:
        scales = quantizer.scale_bits(out, n // out) // 8
        columns = 0 if getattr(quantizer, "columns", None) is None else len(quantizer.columns)
        extra = scales + columns + _scaling(name, out, dims, integer)
        if integer and flat and isinstance(layer, layers.Linear) and layer.bias is not None:  # as int32, with its scale
            extra += _tensor(name + 10, (out,), 4 * out) + 8 + _node(16, (name + 13, name + 10), name + 9)
    elif bits == 16:
        extra = 4 * out + _scaling(name, out, dims, False) if normed else _node(4, (name + 5,), name + 7, TO)
    return Size(found.bytes + extra, found.tables)


def _codes(quantizer: Any, bits: int, integer: bool) -> str:
    """The table that 4-bit codes need: powers of two beyond 4 bits a book, stretched integers a factor."""
    if bits != 4:
        return ""
    if getattr(quantizer, "levels", "uniform") == "log" and quantizer.bits == 4:
        return "book"
    return "step" if integer else ""


def _values(name: int, dims: tuple[int, ...], n: int, bits: int, living: int, symmetric: bool, codes: str = "") -> Size:
    """The values in their smallest form: as they are, in codes of few bits, or without the zeros."""
    more = {"book": _node(6, (6, 15), 15), "step": _node(3, (15, 7), 15) + _node(4, (15,), 15, TO)}.get(codes, 0)
    kept = _code(living, 1 if bits == 2 and symmetric else bits) + (APART if bits < 8 else bits // 8) + more
    zeros = 20 + -(-n // 8) + _tensor(8, dims[:1], 8 * len(dims)) + 253 + name + kept + (0 if n % 8 == 0 else 57)
    needed = {codes} if codes else set[str]()
    tables = {"zeros", *needed, *({"1"} if bits < 3 and symmetric else {str(bits)} if bits < 3 else ())}
    dense = Size(_tensor(name + {16: 5, 32: 7}.get(bits, 9), dims, n * max(bits, 8) // 8))
    if bits < 3:
        code = Size(_code(n, bits) + _tensor(8, dims[:1], 8 * len(dims)) + name + 41, frozenset({str(bits)}))
        dense = min(dense, code, key=lambda s: s.bytes)
    elif bits == 4:
        code = Size(_tensor(13, dims, -(-n // 2)) + _node(4, (13,), name + 9, TO) + more, frozenset(needed))
        dense = min(dense, code, key=lambda s: s.bytes)
    return Size(zeros, frozenset(tables)) if zeros <= SPARSE * dense.bytes else dense


def _code(count: int, bits: int) -> int:
    """Flat values of so many bits, and the nodes that make bytes of them where they are less."""
    data = _tensor(12, (count,), -(-count * bits // 8))
    if bits >= 8:
        return data
    if bits == 4:
        return data + _node(4, (11,), 9, TO)
    return data + 154 + (0 if count % (8 // bits) == 0 else 111)


def _scaling(name: int, out: int, dims: tuple[int, ...], integer: bool) -> int:
    """What makes integers real, beside the bytes of scales and zero points."""
    if integer:
        headers = _tensor(name + 6, (out,), 4 * out) - 4 * out + _tensor(name + 5, (out,), out)
        return headers + _node(16, (name + 9, name + 6, name + 5), name + 7, AXIS)
    shape = _tensor(name + 7, (len(dims),), 8 * len(dims)) + _tensor(name + 6, (out,), 4 * out) - 4 * out
    nodes = _node(4, (name + 9,), name + 2, TO) + _node(7, (name + 6, name + 7), name + 2)
    return shape + nodes + _node(3, (name + 2, name + 2), name + 7)


def fixed(model: nn.Module, activations: int | None = None) -> int:
    """Everything but the weights and their scales. activations: bits as planned; 0 is float, None is as they are."""
    modules = dict(model.named_modules())
    standing = [m.bits for m in modules.values() if isinstance(m, layers.ActivationQuantizer)]
    if activations:
        places = quantizer_places(model)
        bits = [activations] * max(len(places.outputs) + len(places.inputs), len(standing))
    else:
        bits = standing if activations is None else []
    folded = norm_pairs(model)
    longer, found = NAME if bits else 0, HEAD + sum(PAIR + (CLIP if b < 8 else 0) for b in bits)
    normed, flat = set(folded.values()), flat_readers(model)
    for path, kind in _operations(model, modules):
        module = modules.get(path)
        if isinstance(module, layers.Conv2d | layers.Linear):
            found += _product(path, module, path in normed, path in flat) + longer
        elif kind is layers.LayerNorm:
            found += NODES[kind] + 2 * len(path) + longer
        elif isinstance(kind, str):
            found += FUNCTIONS.get(kind, OTHER + longer)
        elif path not in folded and kind is not nn.Identity and kind is not nn.Dropout:
            found += NODES.get(kind, OTHER) + longer * (2 if kind is layers.Add else 1)
    ours = {id(p) for m in layers.weighted(model).values() for p in m._parameters.values()}
    ours |= {id(p) for path in folded for p in modules[path].parameters()}
    quantizers = {id(p) for m in modules.values() if isinstance(m, layers.Quantizer) for p in m.parameters()}
    rest = {id(p): p for p in model.parameters() if id(p) not in ours | quantizers}
    return found + sum(4 * p.numel() + 40 for p in rest.values()) + _statistics(modules, folded)


def _operations(model: nn.Module, modules: dict[str, nn.Module]) -> list[tuple[str, Any]]:
    """(path, type) of every operation in the graph, ("", name) of functions; of every layer once when untraceable."""
    graph = trace(model)
    if graph is None:
        return [(path, type(m)) for path, m in modules.items() if type(m) in NODES or hasattr(m, "effective_weight")]
    nodes = [n for n in graph.nodes if n.op in ("call_module", "call_function", "call_method")]
    return [
        (str(n.target), type(modules[str(n.target)])) if n.op == "call_module"
        else ("", str(getattr(n.target, "__name__", n.target)))
        for n in nodes
    ]  # fmt: skip


def _product(path: str, layer: layers.Conv2d | layers.Linear, normed: bool, flat: bool) -> int:
    """A convolution or linear layer's node, and its bias, which a folded batch norm gives it."""
    name, out, convolution = len(path), len(layer.weight), isinstance(layer, layers.Conv2d)
    node = name + (154 if convolution else 82)
    if not (convolution or flat):  # a product, and a sum for the bias
        node = _node(6, (10, 7), 10) + (_node(3, (10, name + 5), 10) if layer.bias is not None else 0)
    biased = normed or layer.bias is not None
    return node + (_tensor(name + 5, (out,), 4 * out) + name + 7 if biased else 0)


def _statistics(modules: dict[str, nn.Module], folded: dict[str, str]) -> int:
    """Means and variances of batch norms that stay."""
    left = [m for path, m in modules.items() if isinstance(m, nn.BatchNorm2d) and path not in folded]
    return sum(2 * (4 * m.num_features + 40) for m in left)


def _tensor(name: int, dims: Sequence[int], data: int) -> int:
    """An initializer with a name of so many letters, as protobuf writes it."""
    return _message(sum(1 + _varint(d) for d in dims) + 2 + 2 + name + 1 + _varint(data) + data)


def _node(kind: int, inputs: Sequence[int], output: int, attributes: int = 0) -> int:
    """A node whose operator and tensors have names of so many letters."""
    return _message(2 + kind + sum(2 + n for n in inputs) + 2 + output + attributes)


def _message(content: int) -> int:
    return 1 + _varint(content) + content


def _varint(value: int) -> int:
    return max(1, -(-int(value).bit_length() // 7))
