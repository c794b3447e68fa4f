"""Small made-up data in the official formats."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lessen.tasks import cifar, fashion
from lessen.tasks.dataset import Images


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the machine's own data."""
    monkeypatch.setenv("LESSEN_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion, "DEBIAN", str(tmp_path / "nowhere"))
    return tmp_path / "cache"


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def images(random: np.random.Generator) -> Images:
    """300 and 60 colour images of 8 px in three classes of unequal size: a half, a third, a sixth."""

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        return random.integers(0, 256, (n, 3, 8, 8), np.uint8), np.resize([0, 0, 0, 1, 1, 2], n)

    return Images(*part(300), *part(60), classes=("cat", "dog", "elk"))


@pytest.fixture
def cifar_folder(tmp_path: Path, random: np.random.Generator) -> Path:
    """Both sets: 200 training images in each file, 100 test images."""
    for layout, classes in ((cifar.CIFAR10, 10), (cifar.CIFAR100, 100)):
        (tmp_path / layout.folder).mkdir()
        *batches, meta = layout.files
        for file in batches:
            n = 100 if "test" in file else 200
            content = {
                b"data": random.integers(0, 256, (n, 3072), np.uint8),
                layout.labels.encode(): np.resize(np.arange(classes), n).tolist(),
                b"filenames": [b"a.png"] * n,
            }
            (tmp_path / layout.folder / file).write_bytes(pickle.dumps(content, protocol=4))
        names = {layout.names.encode(): [f"class {i}".encode() for i in range(classes)]}
        (tmp_path / layout.folder / meta).write_bytes(pickle.dumps(names, protocol=4))
    return tmp_path


def idx(values: np.ndarray) -> bytes:
    shape = b"".join(n.to_bytes(4, "big") for n in values.shape)
    return bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()


@pytest.fixture
def fashion_folder(tmp_path: Path, random: np.random.Generator) -> Path:
    """200 training and 50 test images of 28 px; the training files are compressed, the others plain."""
    root = tmp_path / fashion.FOLDER
    root.mkdir()
    for part, n in (("train", 200), ("t10k", 50)):
        x, y = random.integers(0, 256, (n, 28, 28), np.uint8), np.resize(np.arange(10), n).astype(np.uint8)
        for file, values in ((f"{part}-images-idx3-ubyte", x), (f"{part}-labels-idx1-ubyte", y)):
            if part == "train":
                (root / f"{file}.gz").write_bytes(gzip.compress(idx(values)))
            else:
                (root / file).write_bytes(idx(values))
    return root


@pytest.fixture
def pets(tmp_path: Path, random: np.random.Generator) -> Path:
    """Three classes of 20, 20 and 10 images of several forms and kinds."""
    root = tmp_path / "pets"
    for name, n in (("dog", 20), ("cat", 20), ("elk", 10)):
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = random.integers(0, 256, (20 + i, 30, 3), np.uint8)
            kind, ending = [("RGB", "png"), ("L", "png"), ("RGB", "JPEG"), ("RGBA", "png")][i % 4]
            Image.fromarray(pixels).convert(kind).save(root / name / f"{i:02}.{ending}")
    (root / "README.txt").write_text("not a class")
    (root / ".cache").mkdir()
    return root
