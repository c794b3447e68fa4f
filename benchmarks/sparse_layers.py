"""Do zeros cost time, and from how many of them on do they save bytes? Single layers and VGG-11 in ONNX Runtime.

    python benchmarks/sparse_layers.py [runs=60]

Every layer is stored dense and sparse; the two files run alternated in one process and the ratio is taken pair by
pair. A sparse file is unpacked at load and then runs the dense kernel, so the ratio should be 1. Without zeros the
sparse form would be larger and both files are dense. Exits 1 when a sparse file answers otherwise than its dense one
or runs other operators, or when VGG-11's file at 90 % is more than 0.16 of its dense one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from lessen import models
from lessen.artifact import forms
from lessen.artifact.export import export
from lessen.artifact.runtimes import Session, open_session
from lessen.core.processor import name as cpu
from lessen.measure.quiet import quiet_machine
from lessen.ops import layers

SPARSITIES = (0.0, 0.5, 0.75, 0.9, 0.95)
MOST = 0.16
RNG = np.random.default_rng(0)


class Layer(NamedTuple):
    name: str
    weight: tuple[int, ...]
    x: tuple[int, ...]
    operator: str
    attributes: dict[str, Any]


LAYERS = (
    Layer("conv 3x3 64-64, 32 px", (64, 64, 3, 3), (64, 32, 32), "Conv", {"pads": [1] * 4}),
    Layer("conv 3x3 512-512, 4 px", (512, 512, 3, 3), (512, 4, 4), "Conv", {"pads": [1] * 4}),
    Layer("conv 1x1 256-256, 8 px", (256, 256, 1, 1), (256, 8, 8), "Conv", {}),
    Layer("linear 512-512", (512, 512), (512,), "Gemm", {"transB": 1}),
)


def pruned(shape: tuple[int, ...], share: float) -> np.ndarray:
    """Normal weights (fan-in scaled) of which the smallest `share` are zero."""
    weight = RNG.normal(size=shape, scale=np.prod(shape[1:]) ** -0.5).astype("f4")
    order = np.argsort(np.abs(weight), axis=None)
    weight.reshape(-1)[order[: round(share * weight.size)]] = 0
    return weight


def network(layer: Layer, weight: np.ndarray, integer: bool) -> onnx.ModelProto:
    """x -> layer -> y; with `integer` between uint8 quantizers, int8 weights with a scale a channel, as pack does."""
    node = helper.make_node
    if integer:
        tensors = quantized(weight)
        nodes = [
            node("DequantizeLinear", ["w", "scale", "zero"], ["w_real"], axis=0),
            node("DequantizeLinear", ["b", "b_scale"], ["b_real"], axis=0),
            node("QuantizeLinear", ["x", "step", "middle"], ["x_integers"]),
            node("DequantizeLinear", ["x_integers", "step", "middle"], ["x_real"]),
            node(layer.operator, ["x_real", "w_real", "b_real"], ["c"], **layer.attributes),
            node("QuantizeLinear", ["c", "step", "middle"], ["y_integers"]),
            node("DequantizeLinear", ["y_integers", "step", "middle"], ["y"]),
        ]
    else:
        tensors = {"w": weight, "b": np.zeros(len(weight), np.float32)}
        nodes = [node(layer.operator, ["x", "w", "b"], ["y"], **layer.attributes)]
    value = helper.make_tensor_value_info
    y = ["n", len(weight), *layer.x[1:]]
    graph = helper.make_graph(
        nodes, "layer", [value("x", TensorProto.FLOAT, ["n", *layer.x])], [value("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def quantized(weight: np.ndarray) -> dict[str, Any]:
    """Integers and scales of weights, bias and activations; only what was zero becomes zero."""
    scale = (np.abs(weight).reshape(len(weight), -1).max(1) / 127).clip(1e-12).astype("f4")
    rounded = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    step = np.float32(0.03)
    return {
        "w": np.where(rounded == 0, np.sign(weight), rounded).astype("i1"), "scale": scale,
        "zero": np.zeros(len(weight), np.int8), "step": step, "middle": np.uint8(128),
        "b": np.zeros(len(weight), np.int32), "b_scale": step * scale,
    }  # fmt: skip


def alternated(dense: Session, packed: Session, x: np.ndarray, runs: int) -> np.ndarray:
    """Ratios sparse / dense, one a run; which goes first changes from run to run."""
    for session in (dense, packed) * 3:
        session.run(x)
    ratios = []
    for i in range(runs):
        taken: dict[Session, float] = {}
        for session in (dense, packed) if i % 2 else (packed, dense):
            start = time.perf_counter()
            session.run(x)
            taken[session] = time.perf_counter() - start
        ratios.append(taken[packed] / taken[dense])
    return np.array(ratios)


def seconds(action: Callable[[], object], times: int = 5) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def compare(
    model: onnx.ModelProto, x: np.ndarray, runs: int, folder: Path
) -> tuple[float, np.ndarray, list[float], bool]:
    """Ratios of bytes and of times, seconds to load dense and sparse, and whether both do and answer the same."""
    files = [folder / "dense.onnx", folder / "sparse.onnx"]
    onnx.save(model, files[0])
    forms.shrink(model, worth=1.0)
    onnx.save(model, files[1])
    loads = [seconds(lambda f=f: open_session([f])) for f in files]
    dense, packed = (open_session([f]) for f in files)
    same = np.array_equal(dense.run(x), packed.run(x)) and dense.operators() == packed.operators()
    bytes_ratio = files[1].stat().st_size / files[0].stat().st_size
    return bytes_ratio, alternated(dense, packed, x, runs), loads, same


def break_even(layer: Layer, integer: bool) -> tuple[float, float]:
    """The share of zeros above which sparse is smaller: by n/8 + 4k bytes (float; k for int8), and of real files."""
    width = 1 if integer else 4
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        model = network(layer, pruned(layer.weight, middle), integer)
        before = model.ByteSize()
        forms.shrink(model, worth=1.0)
        low, high = (low, middle) if model.ByteSize() < before else (middle, high)
    return 1 / (8 * width), high


def quartiles(ratios: np.ndarray) -> str:
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def table_of_layers(runs: int, folder: Path) -> bool:
    print(f"\n{'layer':24} {'weights':8} {'zeros':>6} {'bytes':>7} {'load ms dense, sparse':>22} "
          f"{'time sparse / dense':>24}")  # fmt: skip
    ok = True
    for layer in LAYERS:
        x = RNG.normal(size=(1, *layer.x)).astype("f4")
        for integer in (False, True):
            for share in SPARSITIES:
                model = network(layer, pruned(layer.weight, share), integer)
                ratio, times, loads, same = compare(model, x, runs, folder)
                ok &= same
                told = f"{loads[0] * 1e3:.1f}, {loads[1] * 1e3:.1f}"
                kind = "int8" if integer else "float32"
                print(f"{layer.name:24} {kind:8} {share:6.2f} {ratio:7.3f} {told:>22} {quartiles(times):>24}"
                      + ("" if same else "  OUTPUTS OR OPERATORS DIFFER"), flush=True)  # fmt: skip
    return ok


def table_of_break_even() -> None:
    print(f"\n{'sparse is smaller from':24} {'weights':8} {'computed':>9} {'in files':>9}")
    for layer in LAYERS:
        for integer in (False, True):
            computed, found = break_even(layer, integer)
            print(f"{layer.name:24} {'int8' if integer else 'float32':8} {computed:9.1%} {found:9.1%}")
    print(f"pack takes the sparse form where it is at most {forms.WORTH} of the weight's dense bytes")


def whole_net(runs: int, folder: Path) -> bool:
    """VGG-11, 32 px, 100 classes, one Linear head, each layer 90 % sparse."""
    torch.manual_seed(0)
    net = models.build("vgg11").eval()
    for layer in layers.weighted(layers.own(net)).values():
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(pruned(tuple(layer.weight.shape), 0.9)))
    model = export(net, torch.zeros(1, 3, 32, 32)).proto
    x = RNG.normal(size=(1, 3, 32, 32)).astype("f4")
    count = sum(p.numel() for p in net.parameters())
    ratio, times, loads, same = compare(model, x, runs, folder)
    print(f"\nVGG-11, {count / 1e6:.1f} M weights, 90 % sparse, float32: {ratio:.3f} of the dense file's bytes "
          f"(at most {MOST}), loads in {loads[1]:.2f} s (dense {loads[0]:.2f}), time {quartiles(times)}, "
          f"{'same' if same else 'OTHER'} outputs and operators")  # fmt: skip
    return same and ratio <= MOST


def main() -> int:
    arguments = dict(a.split("=", 1) for a in sys.argv[1:])
    runs = int(arguments.get("runs", 60))
    print(f"{cpu()}, onnxruntime {version('onnxruntime')}, 1 thread, batch 1; "
          f"time: median (quartiles) of n = {runs} alternated pairs; load: median of 5")  # fmt: skip
    with tempfile.TemporaryDirectory() as name, quiet_machine("timing sparse layers"):
        folder = Path(name)
        ok = table_of_layers(runs, folder)
        table_of_break_even()
        ok &= whole_net(runs, folder)
    return int(not ok)


if __name__ == "__main__":
    sys.exit(main())
