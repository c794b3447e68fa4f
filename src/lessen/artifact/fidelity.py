"""Does the packed file compute what the model computes? Agreement and SQNR, and the worst layer by name.

Absolute differences mislead (one rounding step moves an int8 output by its scale), so none is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lessen.artifact import runtimes
from lessen.artifact.manifest import Fidelity
from lessen.core.errors import Disagreement

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from lessen.artifact.export import Exported
    from lessen.core.task import Task

SAMPLES = 1000  # or all there are


class Tolerance(NamedTuple):
    """Refuse below `sqnr_db`; refuse below `agreement` unless SQNR reaches `sure_db`, where only ties can flip."""

    agreement: float
    sqnr_db: float
    sure_db: float


FLOAT = Tolerance(0.999, 60.0, 90.0)
INTEGER = Tolerance(0.985, 20.0, 30.0)
COARSE = Tolerance(0.95, 12.0, 35.0)  # below 8 bits: a flipped rounding moves a 4-bit value by a fifteenth of its range


def sqnr_db(reference: np.ndarray, found: np.ndarray) -> float:
    """10 log10 of signal power over difference power; infinite (as 999) where both are equal.

    >>> round(sqnr_db(np.array([1.0, 0.0]), np.array([1.0, 0.1])), 6)
    20.0
    """
    noise = float(np.square(reference.astype(np.float64) - found).sum())
    signal = float(np.square(reference.astype(np.float64)).sum())
    return 999.0 if noise == 0 else 10 * float(np.log10(max(signal, 1e-30) / noise))


def samples(task: Task) -> Any:
    """Model inputs to compare on: the calibration split, topped up from train to 1,000 where it has so many; each once,
    though calibration is drawn from train.
    """
    import torch

    x = torch.cat([task.split("calibration").x, task.split("train").x[:SAMPLES]])
    first = {sample.tobytes(): i for i, sample in reversed(list(enumerate(x.numpy())))}
    return task.inputs(x[sorted(first.values())[:SAMPLES]])


def tolerance(model: nn.Module) -> Tolerance:
    """What rounding between layers allows; none allows next to nothing."""
    from lessen.ops import layers

    kinds = (layers.ActivationQuantizer, layers.DynamicQuantizer, layers.SignActivations)
    quantizers = (m for m in model.modules() if isinstance(m, kinds))
    bits = [int(quantizer.bits) for quantizer in quantizers]
    return (COARSE if min(bits) < 8 else INTEGER) if bits else FLOAT


def compare(model: nn.Module, file: Path, exported: Exported, task: Task) -> Fidelity:
    """Run file and model on the same samples. Errors: Disagreement beyond the tolerance, naming the worst layer."""
    import torch

    from lessen.artifact.runtimes import open_session

    x = samples(task)
    session = open_session([file])
    model = model.eval()
    with torch.inference_mode():
        expected = torch.cat([model(part) for part in x.split(250)]).numpy()
    found = np.concatenate([session.run(part.numpy()) for part in x.split(250)])
    least = tolerance(model)
    fidelity = Fidelity(
        n=len(x), agreement=float((expected.argmax(1) == found.argmax(1)).mean()), sqnr_db=sqnr_db(expected, found),
        least_agreement=least.agreement, least_sqnr_db=least.sqnr_db, sure_sqnr_db=least.sure_db,
    )  # fmt: skip
    agrees = fidelity.agreement >= least.agreement or fidelity.sqnr_db >= least.sure_db
    if not (agrees and fidelity.sqnr_db >= least.sqnr_db):
        layer, ratio = worst_layer(model, exported, x[:64])
        raise Disagreement(
            f"the file does not compute what the model computes: {fidelity.agreement:.2%} same class (at least "
            f"{least.agreement:.2%}), SQNR {fidelity.sqnr_db:.1f} dB (at least {least.sqnr_db:.0f}) on {len(x)} "
            f"samples; worst layer '{layer}' at {ratio:.1f} dB; nothing was written"
        )
    return fidelity


def worst_layer(model: nn.Module, exported: Exported, x: Any) -> tuple[str, float]:
    """Path of the layer whose output in the file is furthest from its output in the model, and its SQNR in dB."""
    import torch

    from lessen.ops.watching import recorded

    theirs = file_outputs(exported.proto, exported.outputs, x.numpy())
    known = [("out", path) for path, _ in model.named_modules() if path in theirs]
    _, ours = recorded(model, x, known)
    given = {path: found[-1].numpy() for (_, path), found in ours.items() if isinstance(found[-1], torch.Tensor)}
    ratios = {path: sqnr_db(v, theirs[path]) for path, v in given.items() if v.shape == theirs[path].shape}
    return min(ratios.items(), key=lambda pair: pair[1], default=("unknown", float("nan")))


def file_outputs(source: onnx.ModelProto, outputs: Mapping[str, str], x: np.ndarray) -> dict[str, np.ndarray]:
    """What layers of a file compute from x (n, ...), by path; outputs: path -> the value's name in the file."""
    import onnx
    import onnxruntime

    proto = onnx.ModelProto()
    proto.CopyFrom(source)
    graph = onnx.shape_inference.infer_shapes(proto).graph
    inferred, given = {v.name: v for v in graph.value_info}, {v.name for v in graph.output}
    known = {path: name for path, name in outputs.items() if name in inferred or name in given}
    for name in dict.fromkeys(known.values()):
        if name not in given:
            proto.graph.output.append(inferred[name])
    options = runtimes.exact_integers(onnxruntime.SessionOptions())
    session = runtimes.inference(proto.SerializeToString(), options)
    names = [o.name for o in session.get_outputs()]
    values = dict(zip(names, session.run(names, {"x": x}), strict=True))
    return {path: np.asarray(values[name]) for path, name in known.items()}
