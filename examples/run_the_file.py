"""The shipped file in a program of your own, without Lessen or torch. Run: python examples/run_the_file.py ARTIFACT"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder = Path(sys.argv[1])
manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
options = onnxruntime.SessionOptions()
vnni = Path("/proc/cpuinfo").is_file() and "vnni" in Path("/proc/cpuinfo").read_text()
if not vnni:  # int8 is exact without it, too; where it is there, this would take twice the time
    options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])

images = np.random.default_rng(0).integers(0, 256, (3, *manifest["shape"]), np.uint8)  # yours: (n, c, h, w)
mean, std = (np.array(manifest["preprocess"][k], np.float32).reshape(1, -1, 1, 1) for k in ("mean", "std"))
(logits,) = session.run(["y"], {"x": (images / np.float32(255) - mean) / std})  # float32 (n, classes)
print([manifest["classes"][i] for i in logits.argmax(1)])
