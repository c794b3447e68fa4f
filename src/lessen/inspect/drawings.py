"""Histograms and heat maps as SVG paths and PNG data: pictures of a page that needs no script."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lessen.inspect.weights import LayerRow

COLOURS = ("baseline", "prune", "quantize", "distill", "factorize", "nas")  # the original, then up to five others
HEIGHT = 40.0
SIDE = 112  # pixels of a picture at least
STRONGEST, DIMMED = 0.85, 0.6  # opacity of the heat map at its largest value, brightness of the image under it


def colour(i: int) -> str:
    """The CSS colour of model i."""
    return f"var(--{COLOURS[i]})"


def histogram(row: LayerRow, i: int) -> str:
    """One model's histogram as the `d` of a path, a unit a bin wide and `HEIGHT` high; empty without weights.

    Drawn is the share of the weights that are not zero, on one scale for all models of the layer.
    """
    shares = [_shares(held.counts) if held else None for held in row.held]
    top = max((max(s) for s in shares if s), default=0.0)
    mine = shares[i]
    if not mine or not top:
        return ""
    ups = [HEIGHT * (1 - 0.96 * s / top) for s in mine]
    steps = " ".join(f"V{y:.2f}H{x}" for x, y in enumerate(ups, 1))
    return f"M0 {HEIGHT:g}{steps}V{HEIGHT:g}"


def _shares(counts: tuple[int, ...]) -> list[float] | None:
    total = sum(counts)
    return [n / total for n in counts] if total else None


def zero(row: LayerRow) -> float | None:
    """Where zero lies on the axis, in bins; None outside."""
    low, high = row.edges[0], row.edges[-1]
    return len(row.edges[1:]) * -low / (high - low) if low < 0 < high else None


def picture(image: np.ndarray) -> str:
    """An image (c, h, w) uint8 as PNG data, its pixels enlarged."""
    return _png(_enlarged(image))


def overlay(image: np.ndarray, heat: np.ndarray) -> str:
    """The image in grey under a map (h, w) between 0 and 1: dark red is little, yellow is much."""
    from matplotlib import colormaps
    from PIL import Image

    large = _enlarged(image).astype(float)
    grey = large @ (0.299, 0.587, 0.114)  # ITU-R BT.601
    size = (large.shape[1], large.shape[0])
    smooth = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    opacity = (STRONGEST * smooth.clip(0, 1))[..., None]
    colours = 255 * colormaps["inferno"](0.25 + 0.65 * smooth.clip(0, 1))[..., :3]
    return _png((DIMMED * (1 - opacity) * grey[..., None] + opacity * colours).round().astype(np.uint8))


def _enlarged(image: np.ndarray) -> np.ndarray:
    """(c, h, w) -> (h * k, w * k, 3) with square pixels of k x k."""
    k = -(-SIDE // min(image.shape[1:]))
    rgb = np.broadcast_to(image, (3, *image.shape[1:])) if len(image) == 1 else image
    return rgb.transpose(1, 2, 0).repeat(k, 0).repeat(k, 1)


def _png(pixels: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
