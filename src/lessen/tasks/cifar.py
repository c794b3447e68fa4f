"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009, 'Learning multiple layers of features from tiny images').

The official files are Python pickles. They are read by an unpickler that makes arrays, lists, dicts and
strings and nothing else, so that a file from elsewhere cannot run code.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lessen.core.errors import BadData
from lessen.tasks import source
from lessen.tasks.dataset import Crop, Data, Flip, Images, Settings, Verify

LICENSE = "no explicit license; cite Krizhevsky 2009"
URL = "https://www.cs.toronto.edu/~kriz/"


@dataclass(frozen=True)
class Layout:
    """The official files of one set: the last two are the test batch and the names."""

    folder: str
    archive: str
    md5: str  # of the archive
    files: dict[str, str]  # name -> MD5
    labels: str  # key of the labels
    names: str  # key of the class names


CIFAR10 = Layout(
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    md5="c58f30108f718f92721af3b95e74349a",
    files={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    labels="labels",
    names="label_names",
)
CIFAR100 = Layout(
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    md5="eb9058c3a382ffc7106e4002c42a8d85",
    files={
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
    labels="fine_labels",
    names="fine_label_names",
)


class Cifar(Settings):
    """What both sets share; `layout` tells them apart."""

    layout: ClassVar[Layout]

    data: Data = ""
    verify: Verify = True
    crop: Crop = 4
    flip: Flip = True

    def load(self) -> Images:
        return _load(self.layout, self.data, self.verify)


class Cifar10(Cifar):
    """60,000 colour images, 32 px, 10 classes (CIFAR-10)."""

    name: ClassVar[str] = "cifar10"
    layout: ClassVar[Layout] = CIFAR10


class Cifar100(Cifar):
    """60,000 colour images, 32 px, 100 classes (CIFAR-100)."""

    name: ClassVar[str] = "cifar100"
    layout: ClassVar[Layout] = CIFAR100


def _load(layout: Layout, data: str, verify: bool) -> Images:
    root = source.find(layout.folder, layout.files, data)
    if root is None:
        source.download(URL + layout.archive, layout.md5, source.cache())
        root = source.cache() / layout.folder
    paths = {source.path_of(root, file) or root / file: md5 for file, md5 in layout.files.items()}
    *train, test, meta = ((path, read_pickle(path, md5 if verify else None)) for path, md5 in paths.items())
    batches = [_batch(path, content, layout.labels) for path, content in train]
    test_x, test_y = _batch(*test, layout.labels)
    return Images(
        np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches]), test_x, test_y,
        classes=tuple(_text(name) for name in _entry(*meta, layout.names)),
        license=LICENSE,
        baseline="Finetune(epochs=100, lr=0.1)",
    )  # fmt: skip


def _batch(path: Path, content: dict[str, Any], labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of 3072 bytes, planes red, green, blue -> x (n, 3, 32, 32) and y (n,)."""
    x, y = _entry(path, content, "data"), np.asarray(_entry(path, content, labels))
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.shape != (len(y), 3072) or y.dtype.kind != "i":
        raise BadData(f"{path} is no CIFAR batch: 'data' must be (n, 3072) bytes and '{labels}' n integers")
    return x.reshape(-1, 3, 32, 32), y.astype(np.int64)


def _entry(path: Path, content: dict[str, Any], key: str) -> Any:
    if key not in content:
        raise BadData(f"{path} lacks '{key}'; it has {', '.join(content) or 'nothing'}")
    return content[key]


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


class _DataUnpickler(pickle.Unpickler):
    """Makes arrays and plain containers only."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data needs; nothing of it was run")
        return self.allowed[module, name]


def read_pickle(path: Path, md5: str | None = None) -> dict[str, Any]:
    """The dict in an official file, its keys as str. Errors: BadData, also for a pickle that asks for code."""
    content = source.read(path, md5)
    try:
        found = _DataUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as e:  # a broken pickle may raise anything
        raise BadData(f"cannot read {path} as a CIFAR pickle: {e or type(e).__name__}") from e
    if not isinstance(found, dict):
        raise BadData(f"{path} is no CIFAR file: it holds a {type(found).__name__}, expected a dict")
    return {_text(key): value for key, value in found.items()}
