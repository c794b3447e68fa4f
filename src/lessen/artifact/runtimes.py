"""The runtimes that run an artifact's file: ONNX Runtime and, as an extra, OpenVINO. Knows numpy, not torch."""

from __future__ import annotations

import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lessen.core import processor
from lessen.core.errors import BadArtifact, LessenError, UnknownName

RUNTIMES = ("onnxruntime", "openvino")  # each is also the name of its module
# ONNX Runtime sends events over the network from its import on, also beside a timed run, unless told before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
QUIET = 3  # ONNX Runtime's log level: errors only, which it raises as well


class Session(ABC):
    """A file made ready to run on a fixed number of threads."""

    name: str  # runtime and version, for example "onnxruntime 1.32.0"

    @abstractmethod
    def run(self, x: np.ndarray) -> np.ndarray:
        """Model inputs (n, *shape) float32, normalized -> the file's first output, logits (n, classes)."""

    @abstractmethod
    def operators(self) -> dict[str, int]:
        """The operators that one call executes after the runtime has fused and folded what it can, by count."""


def open_session(files: Sequence[Path], runtime: str = "onnxruntime", threads: int = 1) -> Session:
    """Load the runnable files, of which exactly one ends in .onnx.

    >>> session = open_session(artifact.runnable, threads=2)  # doctest: +SKIP
    >>> logits = session.run(x)  # doctest: +SKIP

    Errors: UnknownName, LessenError for a runtime that is not installed, BadArtifact for files it cannot run.
    """
    if runtime not in RUNTIMES:
        raise UnknownName("runtime", runtime, RUNTIMES)
    require(runtime)
    models = [file for file in files if Path(file).suffix == ".onnx"]
    if len(models) != 1:
        raise BadArtifact(f"{len(models)} of the runnable files end in .onnx, not one; pack the model again")
    file = Path(models[0])
    if not file.is_file():
        raise BadArtifact(f"{file} is missing; copy the whole folder again or pack it again")
    kind = OnnxRuntime if runtime == "onnxruntime" else OpenVino
    try:
        return kind(file, threads)
    except Exception as e:  # both runtimes raise classes of their own, rooted in RuntimeError or Exception
        reason = next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)
        raise BadArtifact(f"{runtime} cannot run {file}: {reason}; pack the model again") from None


def require(runtime: str) -> None:
    """Errors: LessenError with the pip command when the runtime's package is missing."""
    if find_spec(runtime) is None:
        what = "lessen" if runtime == "onnxruntime" else f"lessen[{runtime}]"
        raise LessenError(f"runtime '{runtime}' is not installed; pip install '{what}'")


def exact_integers(options: Any) -> Any:
    """ONNX Runtime's SessionOptions, so that uint8 by int8 is exact on every CPU.

    On x86 without VNNI (AVX2: laptops before 2019, AMD's before Zen 4) two products are added in 16 bits, which
    overflow; with this option, weights beyond 64 are held as uint8 and go another way. Version 1.32 goes it wherever it
    is told to, in twice the time, so a CPU that is known to have VNNI is not told.
    """
    if not processor.adds_in_32_bits():
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def inference(model: Path | bytes, options: Any) -> Any:
    """ONNX Runtime's InferenceSession on the CPU, also where `exact_integers` meets weights that layers share."""
    import onnxruntime

    given = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as e:
        if "replace the existing tensor" not in str(e):
            raise
    import onnx

    proto = own_weights(onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load(model))
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def own_weights(model: Any) -> Any:
    """The onnx.ModelProto, in place, with a copy of int8 weights for each of their readers.

    ONNX Runtime 1.32 cannot hold weights that layers share as uint8 (`exact_integers`): "attempt to replace the
    existing tensor".
    """
    import onnx

    graph = model.graph
    weights = {i.name: i for i in graph.initializer if i.data_type == onnx.TensorProto.INT8}
    for node in [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in weights]:
        readers = [(n, k) for n in graph.node for k, name in enumerate(n.input) if name == node.output[0]]
        for number, (reader, k) in enumerate(readers[1:], 1):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name, copy.output[0] = f"{node.name}.{number}", f"{node.output[0]}.{number}"
            reader.input[k] = copy.output[0]
            graph.node.insert(0, copy)
    seen = Counter[str]()
    for node in graph.node:
        for k, name in enumerate(node.input):
            if name in weights:
                if seen[name]:
                    graph.initializer.add().CopyFrom(weights[name])
                    graph.initializer[-1].name = node.input[k] = f"{name}.{seen[name]}"
                seen[name] += 1
    return model


class OnnxRuntime(Session):
    """ONNX Runtime on the CPU, one operator after the other, each on `threads` threads."""

    def __init__(self, file: Path, threads: int) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(QUIET)
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self._file, self._threads = file, threads
        self._session = inference(self._file, self._options())
        self._input, self._output = self._session.get_inputs()[0], self._session.get_outputs()[0].name

    def _options(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = QUIET
        # Without it a session's idle threads spin on after a call and slow down whatever is timed next.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return exact_integers(options)

    def run(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self._session.run([self._output], {self._input.name: x})[0])

    def operators(self) -> dict[str, int]:
        """Taken from a profile of one call, so that nothing is listed which does not run."""
        options = self._options()
        options.enable_profiling = True
        with tempfile.TemporaryDirectory(prefix="lessen-profile-") as folder:
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = inference(self._file, options)
            shape = [size if isinstance(size, int) else 1 for size in self._input.shape]
            session.run([self._output], {self._input.name: np.zeros(shape, np.float32)})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        calls = (e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time"))
        return _counted(e["args"]["op_name"] for e in calls)


class OpenVino(Session):
    """OpenVINO on the CPU, one stream of `threads` threads; float layers stay float32 as in the file."""

    def __init__(self, file: Path, threads: int) -> None:
        import openvino

        self.name = f"openvino {openvino.__version__.partition('-')[0]}"
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # its own choice is bfloat16 where the CPU has it
            "ENABLE_CPU_PINNING": False,  # the measuring process has pinned itself
        }
        self._compiled = openvino.Core().compile_model(str(file), "CPU", settings)
        self._request = self._compiled.create_infer_request()

    def run(self, x: np.ndarray) -> np.ndarray:
        return self._request.infer({0: x}, share_inputs=True, share_outputs=False)[0]

    def operators(self) -> dict[str, int]:
        """Layers of the compiled graph; those that compute in integers carry their type, "Convolution i8"."""
        layers = (op.get_rt_info() for op in self._compiled.get_runtime_model().get_ops())
        named = ((str(i["layerType"].value), str(i["runtimePrecision"].value)) for i in layers)
        skipped = ("Input", "Output", "Const")
        return _counted(f"{k} {p}" if p in ("i8", "u8") else k for k, p in named if k not in skipped)


def _counted(names: Any) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0])))
