"""A torch model as one ONNX file: batch norm folded, integers stored as integers, exporter's metadata stripped.

Traps met here: uint8 activations and -128..127 / 0..255 in the operators' arguments, since any other range adds Clip
nodes that block fusion; weights as int8 initializers behind one DequantizeLinear, since a quantize-dequantize
pair would leave fp32 in the file.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lessen.core.errors import BadArtifact

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn


@dataclass(frozen=True)
class Exported:
    """The ONNX model, and which of its values is the output of which layer (by path in the torch model)."""

    proto: onnx.ModelProto
    outputs: dict[str, str]


@dataclass(frozen=True)
class Stored:
    """Integers of one weight and the scale of each output channel."""

    integers: np.ndarray  # (out, ...) int8
    scale: np.ndarray  # (out,) float32


def export(model: nn.Module, sample: Tensor) -> Exported:
    """Export `model` (a private copy is changed) for inputs like `sample` (n, ...), any n at run time.

    Input "x", output "y". Errors: BadArtifact when the model cannot be exported or a stored weight is lost on the way.
    """
    import onnx
    import torch

    from lessen.ops import layers

    ready, stored = lower(model)
    with _quiet():
        try:
            batch = torch.export.Dim("n", min=1, max=1 << 20)
            program = torch.onnx.export(
                ready, (torch.cat([sample[:1]] * 2),), dynamo=True, external_data=False, input_names=["x"],
                output_names=["y"], dynamic_shapes=({0: batch},), optimize=True, verbose=False,
            )  # fmt: skip
        except Exception as e:  # the exporter raises many types; the user's model is the cause of all
            raise BadArtifact(f"the model cannot be exported to ONNX: {' '.join(str(e).split())[:300]}") from e
    assert program is not None
    proto = program.model_proto
    scopes = _scopes(proto)
    for path, weight in stored.items():
        _store(proto, path, weight, scopes)
    outputs = _layer_outputs(model, proto, scopes)
    _name(proto, set(layers.weighted(ready)), scopes)
    strip(proto)
    onnx.checker.check_model(proto, full_check=True)
    return Exported(proto, outputs)


def lower(model: nn.Module) -> tuple[nn.Module, dict[str, Stored]]:
    """A copy with batch norm folded, weights as the float values of their integers, and exportable quantizers."""
    import torch

    from lessen.ops import layers
    from lessen.ops.folding import fold_norms

    ready = layers.own(copy.deepcopy(model)).cpu().eval()
    integers: dict[str, Tensor] = {}
    for path, layer in layers.weighted(ready).items():
        if layer.wq is not None:
            values = layer.wq.integers(layer.weight)
            integers[path] = values if layer.mask is None else values * layer.mask
    signs = fold_norms(ready)
    stored: dict[str, Stored] = {}
    for path, layer in layers.weighted(ready).items():
        if layer.wq is None:
            value = layer.effective_weight()
        else:
            sign = signs.get(path, torch.ones(len(layer.weight))).reshape(-1, *[1] * (layer.weight.dim() - 1))
            exact, scale = integers[path] * sign, layer.wq.scale.detach().clamp(min=1e-12)
            stored[path] = Stored(exact.to(torch.int8).numpy(), scale.numpy())
            value = exact * scale.reshape(sign.shape)
        with torch.no_grad():
            layer.weight.copy_(value)
        layer.wq, layer.mask = None, None
    _exportable_quantizers(ready)
    return ready, stored


def _exportable_quantizers(ready: nn.Module) -> None:
    from lessen.ops import layers

    for module in list(ready.modules()):
        for slot in ("iq", "oq"):
            quantizer = module._modules.get(slot)
            if isinstance(quantizer, layers.ActivationQuantizer):
                module._modules[slot] = _decomposed(max(quantizer.scale.item(), 1e-12), int(quantizer.zero))


def _decomposed(scale: float, zero: int) -> nn.Module:
    """A quantizer made of the operators that the exporter turns into QuantizeLinear and DequantizeLinear."""
    import torch
    from torch.ao.quantization.fx import _decomposed as _  # noqa: F401  registers the operators

    class Decomposed(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            operators = torch.ops.quantized_decomposed
            q = operators.quantize_per_tensor(x, scale, zero, 0, 255, torch.uint8)
            return operators.dequantize_per_tensor(q, scale, zero, 0, 255, torch.uint8)

    return Decomposed()


def strip(proto: onnx.ModelProto) -> None:
    """Drop what no runtime needs: traces, shapes of inner values, unused functions and initializers."""
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
        node.ClearField("name")
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    for field in ("value_info", "metadata_props", "doc_string"):
        proto.graph.ClearField(field)
    for field in ("functions", "metadata_props", "doc_string"):
        proto.ClearField(field)
    used = {name for node in proto.graph.node for name in node.input}
    kept = [i for i in proto.graph.initializer if i.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def _scopes(proto: onnx.ModelProto) -> list[str]:
    """The torch path of the layer that each node came from, empty where the exporter does not say."""
    import ast

    found = []
    for node in proto.graph.node:
        props = {p.key: p.value for p in node.metadata_props}
        names = ast.literal_eval(props.get("pkg.torch.onnx.name_scopes", "[]"))
        found.append(names[-2] if len(names) > 1 else "")
    return found


def _layer_outputs(model: nn.Module, proto: onnx.ModelProto, scopes: list[str]) -> dict[str, str]:
    """Layer path in `model` -> name of its output in the file; a folded convolution stands for its batch norm."""
    from lessen.ops import graph, layers

    outputs = {path: node.output[0] for node, path in zip(proto.graph.node, scopes, strict=True) if path}
    for norm, conv in graph.norm_pairs(layers.own(copy.deepcopy(model))).items():
        for slot in ("", ".oq"):
            if conv + slot in outputs:
                outputs[norm + slot] = outputs.pop(conv + slot)
    return {path: name for path, name in outputs.items() if f"{path}.oq" not in outputs}


def _store(proto: onnx.ModelProto, path: str, weight: Stored, scopes: list[str]) -> None:
    """Replace the float initializer of a weight by its integers and one DequantizeLinear."""
    from onnx import helper, numpy_helper

    initializers = {i.name: i for i in proto.graph.initializer}
    name, transposed = _find(proto, initializers, path, weight, scopes)
    old = initializers[name]
    integers = weight.integers.T if transposed else weight.integers
    scale, zero = f"{path}.scale", f"{path}.zero"
    proto.graph.initializer.remove(old)
    proto.graph.initializer.extend(
        [
            numpy_helper.from_array(np.ascontiguousarray(integers), f"{path}.integers"),
            numpy_helper.from_array(weight.scale.astype(np.float32), scale),
            numpy_helper.from_array(np.zeros(len(weight.scale), np.int8), zero),
        ]
    )
    node = helper.make_node("DequantizeLinear", [f"{path}.integers", scale, zero], [name], axis=1 if transposed else 0)
    proto.graph.node.insert(0, node)
    scopes.insert(0, "")
    _store_bias(proto, path, name, weight.scale, scopes)


def _store_bias(proto: onnx.ModelProto, path: str, weight: str, scale: np.ndarray, scopes: list[str]) -> None:
    """A Gemm runs in integers only when its bias is int32 at scale (input x weight) too; convolutions need no help."""
    from onnx import helper, numpy_helper

    initializers = {i.name: i for i in proto.graph.initializer}
    input_scale = {n.output[0]: n.input[1] for n in proto.graph.node if n.op_type == "DequantizeLinear"}
    for node in proto.graph.node:
        fits = node.op_type == "Gemm" and weight in node.input[1:2] and len(node.input) == 3
        if not (fits and node.input[0] in input_scale and node.input[2] in initializers):
            continue
        steps = numpy_helper.to_array(initializers[input_scale[node.input[0]]]) * scale
        bias = np.round(numpy_helper.to_array(initializers[node.input[2]]).astype(np.float64) / steps)
        bias = np.clip(bias, -(2**31) + 1, 2**31 - 1).astype(np.int32)
        names = [f"{path}.bias_integers", f"{path}.bias_scale"]
        for name, value in zip(names, (bias, steps.astype(np.float32)), strict=True):
            proto.graph.initializer.append(numpy_helper.from_array(value, name))
        node.input[2] = f"{path}.bias_real"
        proto.graph.node.insert(0, helper.make_node("DequantizeLinear", names, [node.input[2]], axis=0))
        scopes.insert(0, "")
        return


def _find(
    proto: onnx.ModelProto, initializers: dict[str, onnx.TensorProto], path: str, weight: Stored, scopes: list[str]
) -> tuple[str, bool]:
    """The initializer that holds a weight's float values, and whether the exporter transposed it."""
    from onnx import numpy_helper

    if f"{path}.weight" in initializers:
        return f"{path}.weight", False
    value = weight.integers.astype(np.float32) * weight.scale.reshape(-1, *[1] * (weight.integers.ndim - 1))
    for node, scope in zip(proto.graph.node, scopes, strict=True):
        for name in node.input if scope == path else ():
            if name in initializers and np.array_equal(numpy_helper.to_array(initializers[name]), value.T):
                return name, True
    raise BadArtifact(f"the exporter lost the weight of '{path}', so its integers cannot be stored")


def _name(proto: onnx.ModelProto, paths: set[str], scopes: list[str]) -> None:
    """Weights that the exporter transposed, and called "val_8", get the name of their layer."""
    known = {i.name for i in proto.graph.initializer}
    new = {
        node.input[1]: f"{path}.weight"
        for node, path in zip(proto.graph.node, scopes, strict=True)
        if path in paths and f"{path}.weight" not in known and node.op_type == "MatMul" and node.input[1] in known
    }
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = new.get(name, name)
    for initializer in proto.graph.initializer:
        initializer.name = new.get(initializer.name, initializer.name)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks much; what matters comes back as errors."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
