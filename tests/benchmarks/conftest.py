"""Made-up CIFAR-100 in the official format, and the scripts of benchmarks/cifar100 as modules."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from lessen.tasks import cifar

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/cifar100"))


@pytest.fixture(scope="session")
def cifar_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 training and 100 test images; the folder above them. Do not edit it."""
    root, random = tmp_path_factory.mktemp("cifar"), np.random.default_rng(0)
    folder = root / cifar.CIFAR100.folder
    folder.mkdir()
    for file, n in (("train", 200), ("test", 100)):
        content = {
            b"data": random.integers(0, 256, (n, 3072), np.uint8),
            b"fine_labels": np.resize(np.arange(100), n).tolist(),
        }
        (folder / file).write_bytes(pickle.dumps(content, protocol=4))
    names = {b"fine_label_names": [f"class {i}".encode() for i in range(100)]}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=4))
    return root
