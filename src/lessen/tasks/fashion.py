"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747) from its four idx files, raw or .gz."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from lessen.core.errors import BadData
from lessen.tasks import source
from lessen.tasks.dataset import Crop, Data, Edge, Flip, Images, Settings, Verify

if TYPE_CHECKING:
    import numpy as np

FOLDER = "fashion-mnist"
DEBIAN = "/usr/share/datasets/fashion-mnist"  # package dataset-fashion-mnist
URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
# MD5 of the content (Debian packs the same bytes anew) and of the published .gz
FILES = {
    "train-images-idx3-ubyte": ("f4a8712d7a061bf5bd6d2ca38dc4d50a", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    "train-labels-idx1-ubyte": ("9018921c3c673c538a1fc5bad174d6f9", "25c81989df183df01b3e8a0aad5dffbe"),
    "t10k-images-idx3-ubyte": ("8181f5470baa50b63fa0f6fddb340f0a", "bef4ecab320f06d8554ea6380940ec79"),
    "t10k-labels-idx1-ubyte": ("15d484375f8d13e6eb1aabb0c3f46965", "bb300cfdad3c16e7a12a480ee83cd310"),
}
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


class Fashion(Settings):
    """70,000 grey images of clothes, 28 px, 10 classes (Fashion-MNIST)."""

    name: ClassVar[str] = "fashion"

    data: Data = ""
    verify: Verify = True
    crop: Crop = 2
    edge: Edge = "zero"
    flip: Flip = True

    def load(self) -> Images:
        md5s = {file: md5 for file, (md5, _) in FILES.items()}
        root = source.find(FOLDER, md5s, self.data, places=(DEBIAN,)) or _download()
        images, labels, test_images, test_labels = (
            read_idx(source.path_of(root, file) or root / file, md5 if self.verify else None)
            for file, (md5, _) in FILES.items()
        )
        return Images(
            images[:, None], labels.astype("int64"), test_images[:, None], test_labels.astype("int64"),
            classes=CLASSES,
            license="MIT (Zalando SE 2017)",
            baseline="Finetune(epochs=10, lr=0.1)",
        )  # fmt: skip


def read_idx(path: Path, md5: str | None = None) -> np.ndarray:
    """An idx file of unsigned bytes: two zeros, type 8, number of axes, their lengths, the values. Errors: BadData."""
    import numpy as np

    content = source.read(path, md5)
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise BadData(f"{path} is no idx file of bytes: it begins with {content[:4]!r}; fetch it again")
    head = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, head, 4))
    if len(content) != head + prod(shape):
        raise BadData(f"{path} is truncated: {len(content)} bytes, expected {head + prod(shape)}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _download() -> Path:
    root = source.cache() / FOLDER
    for file, (_, md5) in FILES.items():
        source.download(f"{URL}{file}.gz", md5, root)
    return root
