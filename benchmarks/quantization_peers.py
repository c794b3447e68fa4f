"""Our Int8 against ONNX Runtime's own quantizer, NNCF's and torchao's: the same nets, samples, runtime and threads.

    python benchmarks/quantization_peers.py                                         ResNet-8 and VGG-11 on digits
    python benchmarks/quantization_peers.py --task fashion --model resnet8          another task
    python benchmarks/quantization_peers.py --artifact DIR [--artifact DIR]         trained nets, one a seed
    options: --seeds 0,1,2   --runs 30   -o results/quantization_peers/rows.json

ONNX Runtime: QDQ, uint8 activations, int8 weights per channel, its recommended preprocessing, each of its calibrations.
NNCF: its ONNX backend, both presets, fast bias correction; pip install 'lessen[nncf]', else it is left out. torchao:
PT2E with X86InductorQuantizer, exported as it stands. The peers start from our float file (torchao from the plain
model). Scores are of all test images, seed by seed and image by image. Exits 1 where ours scores more than 0.2 points
below a peer's, or its file is larger than the peer's as written, or takes more than 1.05 of its time (median of pairs,
and the lower quartile above 1: on a busy machine the same operators differ by more).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

import lessen
from lessen.analyze.statistics import paired_difference
from lessen.artifact.export import export, strip
from lessen.artifact.runtimes import Session, open_session
from lessen.measure import machine
from lessen.measure.quiet import quiet_machine
from lessen.measure.timing import alternate
from lessen.ops import calibration, layers

if TYPE_CHECKING:
    from onnxruntime.quantization import CalibrationDataReader

POINTS, TIME, BATCHES, OURS = 0.002, 1.05, (1, 64), "lessen Int8()"
PACKAGES = ("lessen", "torch", "onnx", "onnxruntime", "nncf", "torchao")
ROWS = Path(__file__).parent.parent / "results/quantization_peers/rows.json"
Writer = Callable[[nn.Module, Path, Tensor, Path], Iterator[tuple[str, Path]]]


@dataclass
class Case:
    """One trained net: its files by who wrote them, and which test images each answers rightly."""

    files: dict[str, Path]
    right: dict[str, np.ndarray]
    x: np.ndarray


def onnx_runtime(model: nn.Module, file: Path, x: Tensor, folder: Path) -> Iterator[tuple[str, Path]]:
    """A calibration that fails is told and left out."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(file), str(folder / "prepared.onnx"))
    for method in (CalibrationMethod.MinMax, CalibrationMethod.Percentile, CalibrationMethod.Entropy):
        out, name = folder / f"runtime-{method.name}.onnx", f"ONNX Runtime, {method.name}"
        try:
            quantize_static(
                str(folder / "prepared.onnx"), str(out), _reader(x), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=method,
            )  # fmt: skip
        except Exception as e:  # it raises whatever NumPy does
            _tell(f"{name}: left out, it fails ({str(e)[:100]})")
            continue
        yield name, out


def _reader(x: Tensor) -> CalibrationDataReader:
    """Calibration samples as its quantizer asks for them, in equal parts: its histograms refuse a last, shorter one."""
    from onnxruntime.quantization import CalibrationDataReader

    size = max(n for n in range(1, 101) if len(x) % n == 0)
    parts = iter([{"x": part.numpy()} for part in x.split(size)])

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray]:
            return next(parts, None)  # type: ignore[return-value]  # None ends it

    return Reader()


def nncf(model: nn.Module, file: Path, x: Tensor, folder: Path) -> Iterator[tuple[str, Path]]:
    if find_spec("nncf") is None:
        return _tell("NNCF: left out, it is not installed; pip install 'lessen[nncf]'")
    import nncf

    samples = nncf.Dataset(list(x.numpy()[:, None]), lambda one: {"x": one})
    for preset in (nncf.QuantizationPreset.PERFORMANCE, nncf.QuantizationPreset.MIXED):
        found = nncf.quantize(onnx.load(file), samples, preset=preset, subset_size=len(x))
        onnx.save(found, folder / f"nncf-{preset.value}.onnx")
        yield f"NNCF, {preset.value}", folder / f"nncf-{preset.value}.onnx"


def torchao(model: nn.Module, file: Path, x: Tensor, folder: Path) -> Iterator[tuple[str, Path]]:
    if find_spec("torchao") is None:
        return _tell("torchao: left out, it is not installed; pip install torchao")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    plain = layers.plain(model).eval().to(memory_format=torch.contiguous_format)
    shapes, pair = ({0: torch.export.Dim("n", min=1, max=1 << 20)},), x[:2].clone(memory_format=torch.contiguous_format)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(plain, (pair,), dynamic_shapes=shapes).module(), quantizer)
    with torch.no_grad():
        for part in x.split(128):
            prepared(part)
    program = torch.onnx.export(
        convert_pt2e(prepared), (pair,), dynamo=True, external_data=False, input_names=["x"], output_names=["y"],
        dynamic_shapes=shapes, optimize=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(str(folder / "torchao.onnx"))
    yield "torchao PT2E", folder / "torchao.onnx"


PEERS: tuple[Writer, ...] = (onnx_runtime, nncf, torchao)


def written(model: nn.Module, task: lessen.Task, folder: Path) -> Case:
    """Every file of a trained net, and its answers."""
    x, ours = calibration.samples(task), folder / "ours"
    files = {"float32": folder / "float32.onnx"}
    onnx.save(export(task.copy(model), x[:1]).proto, files["float32"])
    quantized, _ = lessen.recipe("Int8()").apply(model, task)
    files[OURS] = lessen.pack(quantized, task, ours, recipe="Int8()").runnable[0]
    for peer in PEERS:
        with _quiet():
            files |= dict(peer(task.copy(model).cpu().eval(), files["float32"], x, folder))
    test, y = task.split("test")
    inputs = task.inputs(test)
    right = {name: _answers(open_session([file]), inputs) == y.numpy() for name, file in files.items()}
    return Case(files, right, inputs[: max(BATCHES)].numpy())


def _answers(session: Session, x: Tensor) -> np.ndarray:
    return np.concatenate([session.run(part.numpy()).argmax(1) for part in x.split(250)])


def timed(case: Case, runs: int) -> dict[str, dict[str, Any]]:
    """By file, median milliseconds of each batch and quartiles of ours / its time, all files alternated."""
    names, sessions = list(case.files), [open_session([file]) for file in case.files.values()]
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for batch in BATCHES:
        x = np.ascontiguousarray(case.x[:batch])
        ms = alternate([lambda s=s, x=x: s.run(x) for s in sessions], runs)
        for i, name in enumerate(names):
            ratio = np.quantile(ms[:, names.index(OURS)] / ms[:, i], (0.25, 0.5, 0.75))
            found[name][str(batch)] = {"ms": float(np.median(ms[:, i])), "ours_to_it": ratio.round(4).tolist()}
    return found


def rows(cases: list[Case], runs: int) -> list[dict[str, Any]]:
    """One a file: latency is of the first seed's files, since values do not matter for it."""
    with quiet_machine("timing the peers' files"):
        times = timed(cases[0], runs)
    found = []
    for name, file in cases[0].files.items():
        right = np.array([case.right[name] for case in cases if name in case.right])
        ours = np.array([case.right[OURS] for case in cases if name in case.right])
        difference, bare = paired_difference(ours, right), onnx.load(file)
        strip(bare)
        found.append({
            "file": name, "score": float(right.mean()), "seeds": len(right), "images": right.shape[1], "runs": runs,
            "ours_minus_it": [difference.value, difference.low, difference.high], "bytes": file.stat().st_size,
            "bytes_without_metadata": bare.ByteSize(), "latency": times[name],
            "operators": open_session([file]).operators(),
        })  # fmt: skip
    return found


def table(found: list[dict[str, Any]]) -> str:
    """As Markdown."""
    ours = next(row for row in found if row["file"] == OURS)
    lines = [
        "| file | test score | ours - it, points (95 %) | bytes | ours / it | without metadata | ours / it | "
        + " | ".join(f"batch {b}, ms | ours / it (quartiles)" for b in BATCHES) + " |",
        "|---|" + "---:|" * (6 + 2 * len(BATCHES)),
    ]  # fmt: skip
    for row in found:
        value, low, high = (100 * v for v in row["ours_minus_it"])
        sizes = [f"{row[k]:,} | {ours[k] / row[k]:.3f}" for k in ("bytes", "bytes_without_metadata")]
        times = [
            f"{t['ms']:.3f} | {t['ours_to_it'][1]:.2f} ({t['ours_to_it'][0]:.2f} to {t['ours_to_it'][2]:.2f})"
            for t in row["latency"].values()
        ]
        score = f"{row['score']:.2%} | {value:+.2f} ({low:+.2f} to {high:+.2f})"
        lines.append(f"| {row['file']} | {score} | {' | '.join(sizes)} | {' | '.join(times)} |")
    return "\n".join(lines)


def missed(found: list[dict[str, Any]]) -> list[str]:
    """Where a peer does better than the goal allows."""
    ours, said = next(row for row in found if row["file"] == OURS), []
    for row in found:
        if row["file"] in (OURS, "float32"):
            continue
        if row["ours_minus_it"][0] < -POINTS:
            said.append(f"{row['file']} scores {-100 * row['ours_minus_it'][0]:.2f} points more")
        if ours["bytes"] > row["bytes"]:
            said.append(f"{row['file']} takes {row['bytes']:,} bytes, ours {ours['bytes']:,}")
        times = {b: t["ours_to_it"] for b, t in row["latency"].items()}
        slow = {b: middle for b, (low, middle, _) in times.items() if middle > TIME and low > 1}
        said += [f"ours takes {ratio:.2f} of the time of {row['file']} at batch {b}" for b, ratio in slow.items()]
    return said


def trained(task: lessen.Task, model: str, seed: int) -> nn.Module:
    with task.seeded(seed):
        fresh = task.build(model)
    return lessen.recipe(task.baseline).apply(fresh, task, seed=seed)[0]


def save(file: Path, where: dict[str, str], found: list[dict[str, Any]]) -> None:
    """Beside the rows of other nets, which stay."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    kept = [entry for entry in known if any(entry[key] != value for key, value in where.items())]
    about = {
        "machine": machine.describe(1, f"onnxruntime {version('onnxruntime')}").model_dump(),
        "versions": {name: version(name) for name in PACKAGES if find_spec(name)},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([*kept, {**where, **about, "rows": found}], indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The peers draw progress bars and log; errors come as exceptions."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="digits")
    parser.add_argument("--model", action="append")
    parser.add_argument("--artifact", action="append", default=[])
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("-o", "--output", type=Path, default=ROWS)
    return parser.parse_args()


def main() -> int:
    given, worst = arguments(), []
    packed = [lessen.load(folder) for folder in given.artifact]
    task = lessen.task(packed[0].manifest.task if packed else given.task)
    names = [packed[0].manifest.model] if packed else given.model or ["resnet8", "vgg11(width=0.25)"]
    for name in names:
        nets = [a.model() for a in packed] or [trained(task, name, int(seed)) for seed in given.seeds.split(",")]
        with tempfile.TemporaryDirectory() as folder:
            for i in range(len(nets)):
                Path(folder, str(i)).mkdir()
            cases = [written(net, task, Path(folder, str(i))) for i, net in enumerate(nets)]
            found = rows(cases, given.runs)
        said = missed(found)
        save(given.output, {"task": task.text, "model": name}, found)
        samples = f"{len(task.split('calibration').x)} calibration samples"
        print(f"{name} on {task.text}: n = {len(nets)} seeds, {found[0]['images']} test images, {samples}; latency on "
              f"1 thread, n = {given.runs} alternated runs\n\n{table(found)}\n")  # fmt: skip
        print("; ".join(said) or "no peer does better", flush=True)
        worst += said
    return int(bool(worst))


if __name__ == "__main__":
    os.environ.setdefault("NNCF_CI", "1")  # it sends no events then
    sys.exit(main())
