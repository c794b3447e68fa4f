"""A torch model as one ONNX file: batch norm folded, integers stored as integers, exporter's metadata stripped.

Traps met here: uint8 activations and 0..255 in the operators' arguments, since any other range adds nodes on floats
that block fusion; fewer levels are a Clip of the uint8 values, which integer kernels read. Of a mean over
pixels the exporter makes eleven operators, a Gather among them, where weights or sample are laid out as channels_last.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lessen.artifact.encodings import Graph, share, store
from lessen.core.errors import BadArtifact

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

    from lessen.ops.stored import Stored


@dataclass(frozen=True)
class Exported:
    """The ONNX model, and which of its values is the output of which layer (by path in the torch model)."""

    proto: onnx.ModelProto
    outputs: dict[str, str]


def export(model: nn.Module, sample: Tensor) -> Exported:
    """Export `model` (a private copy is changed) for inputs like `sample` (n, ...), any n at run time.

    Input "x", output "y". Errors: BadArtifact when the model cannot be exported or a stored weight is lost on the way.
    """
    import onnx
    import torch

    from lessen.ops import layers, ties

    ready, stored, dynamic = lower(model)
    pair = torch.cat([sample[:1]] * 2).clone(memory_format=torch.contiguous_format)  # strides of one channel, too
    with _quiet():
        try:
            batch = torch.export.Dim("n", min=1, max=1 << 20)
            program = torch.onnx.export(
                ready, (pair,), dynamo=True, external_data=False, input_names=["x"],
                output_names=["y"], dynamic_shapes=({0: batch},), optimize=True, verbose=False,
            )  # fmt: skip
        except Exception as e:  # the exporter raises many types; the user's model is the cause of all
            raise BadArtifact(f"the model cannot be exported to ONNX: {' '.join(str(e).split())[:300]}") from e
    assert program is not None
    proto = program.model_proto
    scopes = _scopes(proto)
    _clip_integers(proto)
    graph, homes = Graph(proto, scopes), ties.homes(ready)
    for path, weight in stored.items():
        store(graph, homes[path], weight, dynamic=path in dynamic)
    for path, *others in ties.tied_layers(model):
        for other in others:
            share(graph, path, other)
    outputs = _layer_outputs(model, proto, scopes)
    _name(proto, set(layers.weighted(ready)), scopes)
    strip(proto)
    onnx.checker.check_model(proto, full_check=True)
    return Exported(proto, outputs)


def lower(model: nn.Module) -> tuple[nn.Module, dict[str, Stored], set[str]]:
    """A copy with batch norm folded and plain float weights, what its weights are stored as, and exportable quantizers.

    The set names the layers whose input is quantized at every call: that is no module but the encoding of a weight.
    """
    import torch

    from lessen.ops import layers
    from lessen.ops.folding import fold_norms

    ready = layers.own(copy.deepcopy(model)).cpu().eval()
    ready.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    weighted = layers.weighted(ready)
    stored = {p: m.wq.stored(m.weight, m.mask) for p, m in weighted.items() if m.wq is not None}
    dynamic = {p for p, m in weighted.items() if isinstance(m.iq, layers.DynamicQuantizer)}
    for path, gain in fold_norms(ready).items():
        if path in stored:
            stored[path] = stored[path].folded(gain)
    for path, layer in weighted.items():
        value = stored[path].real() if path in stored else layer.effective_weight().detach()
        if not torch.equal(layer.weight, value):  # not in place: a layer tied to it may have other values
            layer.weight = torch.nn.Parameter(value)
        layer.wq, layer.mask = None, None
        if path in dynamic:
            layer.iq = None
    _exportable_quantizers(ready)
    return ready, stored, dynamic


def _exportable_quantizers(ready: nn.Module) -> None:
    from lessen.ops import layers

    for module in list(ready.modules()):
        for slot in ("iq", "oq"):
            quantizer = module._modules.get(slot)
            if isinstance(quantizer, layers.ActivationQuantizer):
                scale, zero = max(quantizer.scale.item(), 1e-12), int(quantizer.zero)
                module._modules[slot] = _decomposed(scale, zero, 2**quantizer.bits - 1)
            elif isinstance(quantizer, layers.SignActivations):
                module._modules[slot] = _compared(quantizer.threshold.item(), max(quantizer.scale.item(), 1e-12))


def _decomposed(scale: float, zero: int, top: int) -> nn.Module:
    """A quantizer made of the operators that the exporter turns into QuantizeLinear and DequantizeLinear."""
    import torch
    from torch.ao.quantization.fx import _decomposed as _  # noqa: F401  registers the operators

    class Decomposed(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            operators = torch.ops.quantized_decomposed
            q = operators.quantize_per_tensor(x, scale, zero, 0, 255, torch.uint8)
            if top < 255:
                q = torch.clamp(q, max=top)
            return operators.dequantize_per_tensor(q, scale, zero, 0, 255, torch.uint8)

    return Decomposed()


def _compared(threshold: float, scale: float) -> nn.Module:
    """Signs as bytes: 2 and 0 with the zero point 1, so that the layer behind runs in an integer kernel."""
    import torch
    from torch.ao.quantization.fx import _decomposed as _  # noqa: F401  registers the operators

    class Compared(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            signs = torch.where(x >= threshold, torch.tensor(2, dtype=torch.uint8), torch.tensor(0, dtype=torch.uint8))
            return torch.ops.quantized_decomposed.dequantize_per_tensor(signs, scale, 1, 0, 255, torch.uint8)

    return Compared()


def _clip_integers(proto: onnx.ModelProto) -> None:
    """What `_decomposed` clamps is exported as Min, which ONNX Runtime lacks for uint8; it has Clip."""
    quantized = {n.output[0] for n in proto.graph.node if n.op_type == "QuantizeLinear"}
    for node in proto.graph.node:
        if node.op_type == "Min" and node.input[0] in quantized:
            value, top = node.input
            node.op_type = "Clip"
            del node.input[:]
            node.input.extend([value, "", top])


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

    outputs: dict[str, str] = {}
    for node, path in zip(proto.graph.node, scopes, strict=True):
        for around in [p for p in outputs if path.startswith(f"{p}.")]:
            del outputs[around]  # what it computed itself is not what it gives
        if path:
            outputs[path] = node.output[0]
    for norm, conv in graph.norm_pairs(layers.own(copy.deepcopy(model))).items():
        for slot in ("", ".oq"):
            if conv + slot in outputs:
                outputs[norm + slot] = outputs.pop(conv + slot)
    return {path: name for path, name in outputs.items() if f"{path}.oq" not in outputs}


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
