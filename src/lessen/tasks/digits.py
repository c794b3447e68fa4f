"""Handwritten digits (Alpaydin & Kaynak 1998, UCI 'Optical Recognition of Handwritten Digits'), in scikit-learn."""

from __future__ import annotations

from typing import ClassVar

from lessen.tasks.dataset import Crop, Edge, Images, Settings, draw


class Digits(Settings):
    """1,797 grey scans of digits, 8 px, 10 classes; comes with scikit-learn, needs no download."""

    name: ClassVar[str] = "digits"

    crop: Crop = 1
    edge: Edge = "zero"

    def load(self) -> Images:
        """Half of the scans, 898, are the test split. Stored levels 0..16 become 0..255."""
        import numpy as np
        from sklearn.datasets import load_digits

        levels, y = load_digits(return_X_y=True)
        x = np.rint(np.asarray(levels) * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        y = np.asarray(y, np.int64)
        test, rest = draw(y, len(y) // 2, self.seed, "test")
        return Images(
            x[rest], y[rest], x[test], y[test],
            classes=tuple("0123456789"),
            license="CC BY 4.0 (UCI Machine Learning Repository, Alpaydin & Kaynak 1998)",
            baseline="Finetune(epochs=15, lr=0.1, batch=32)",
        )  # fmt: skip
