"""The user's own images: a folder with one folder a class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from lessen.core.errors import BadData
from lessen.core.technique import Doc, Range
from lessen.tasks.dataset import Crop, Flip, Images, Settings, draw

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


class Folder(Settings):
    """Your own images: one folder a class, cut to a square and resized."""

    name: ClassVar[str] = "folder"

    path: Annotated[str, Doc("the folder that holds one folder a class")]
    size: Annotated[int, Range("side in pixels after resizing", 4, 512)] = 32
    test: Annotated[float, Range("share of the images held out as test split", 0.01, 0.9)] = 0.2
    crop: Crop = 4
    flip: Flip = True

    def load(self) -> Images:
        import numpy as np

        found = _files(Path(self.path).expanduser())
        x = np.stack([_read(file, self.size) for files in found.values() for file in files])
        y = np.repeat(np.arange(len(found)), [len(files) for files in found.values()])
        test, rest = draw(y, round(len(y) * self.test), self.seed, "test")
        return Images(x[rest], y[rest], x[test], y[test], classes=tuple(found), license="the owner's")


def _files(root: Path) -> dict[str, list[Path]]:
    """Class name -> its images, both in sorted order; hidden folders are no classes."""
    if not root.is_dir():
        raise BadData(f"there is no folder {root}; path= names a folder that holds one folder a class")
    classes = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = {p.name: sorted(f for f in p.iterdir() if f.suffix.lower() in ENDINGS) for p in classes}
    for name, files in found.items():
        if not files:
            raise BadData(f"{root / name} has no image; each class folder holds its images itself ({_endings()})")
    if len(found) < 2:
        what = f"only one class, '{next(iter(found))}'" if found else "no class folder"
        raise BadData(f"{root} has {what}; put the images of each of at least two classes into a folder of its own")
    return found


def _read(file: Path, size: int) -> np.ndarray:
    """(3, size, size) uint8: the largest centred square, turned as its EXIF says. Errors: BadData."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            upright = _eight_bits(ImageOps.exif_transpose(image), file, image.format == "PPM").convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise BadData(f"cannot read the image {file}: {e}; mend it or take it away") from e
    return np.asarray(ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)


def _eight_bits(image: Image, file: Path, sixteen: bool) -> Image:
    """Grey of 16 bits as 8, by rounding; anything else as it is. Errors: BadData for grey whose white is not known.

    sixteen: whole numbers are of 16 bits, as Pillow reads a PGM of more than 8.
    """
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and sixteen):  # convert("RGB") would clip them at 255
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit or signed whole numbers" if image.mode == "I" else "floats"
        raise BadData(f"the image {file} holds {kind}, whose white is not known; save it with 8 or 16 bits")
    return image


def _endings() -> str:
    return ", ".join(sorted(ENDINGS))
