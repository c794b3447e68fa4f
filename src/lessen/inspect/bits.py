"""The scan of bits: every layer's weights at 8, 4, 3 and 2 bits alone, beside what gradients foretell of it.

Like any scan it has ratios, here the share of 32 bits that goes; `bits` turns one back. Activations stay float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.core.task import Task
    from lessen.inspect.sites import Edit, Layer, Site

FLOAT = 32
LEVELS, COARSE = (8, 4, 3, 2), (4, 2)
SAMPLES, DRAWS = 128, 16  # of the proxies
PROXIES = {"fisher": "Fisher information", "hessian": "Hessian trace", "variance": "activation variance"}


def ratio(bits: int) -> float:
    """The share of 32 bits that goes.

    >>> ratio(4), bits(ratio(4))
    (0.875, 4)
    """
    return 1 - bits / FLOAT


def bits(share: float) -> int:
    """The bits that stay."""
    return round(FLOAT * (1 - share))


def find(model: nn.Module, sample: Tensor) -> tuple[list[Site], list[str]]:
    """Every layer that has more than 8 bits, rounded as Int4 does it, by least squared error."""
    from lessen.inspect.sites import Site
    from lessen.ops import layers

    weighted = layers.weighted(model)
    left = [path for path, layer in weighted.items() if layer.wq is not None and layer.wq.bits <= LEVELS[0]]
    found = [
        Site((path,), (path,), lambda share, layer=layer: _rounded(layer, share))
        for path, layer in weighted.items()
        if path not in left
    ]
    return found, [f"left out, quantized already: {', '.join(left)}"] if left else []


def _rounded(layer: Layer, share: float) -> list[Edit]:
    from lessen.inspect.sites import Edit

    return [Edit(layer, "weight", rounded(layer, bits(share)))]


def rounded(layer: Layer, width: int) -> Tensor:
    """The layer's weights at so many bits."""
    from lessen.ops.layers import WeightQuantizer

    return WeightQuantizer.fitting(layer, width, rule="mse")(layer.weight.detach()).detach()


def stored(layer: Layer, share: float) -> float:
    """Bits of a layer's weights in the file with their scales: 3 are stored in 4."""
    from lessen.ops.cost import value_bits

    if not share:
        return value_bits(layer, "weight", layer.weight)
    width, n, out = bits(share), layer.weight.numel(), len(layer.weight)
    return n * next(w for w in (1, 2, 4, 8) if w >= width) + 32 * out


def proxies(model: nn.Module, task: Task, sites: Sequence[Site], ratios: Sequence[float]) -> dict[str, list[float]]:
    """Name -> each site's foretold loss, its mean over the grid; the squared error alone is the control."""
    from lessen.ops import curvature, layers

    weighted = layers.weighted(model)
    errors = {site.paths[0]: [_error(weighted[site.paths[0]], bits(share)) for share in ratios] for site in sites}
    found = {"squared error": [float(np.mean([float(e.square().sum()) for e in es])) for es in errors.values()]}
    for kind, name in PROXIES.items():
        known = curvature.measure(model, task, kind, samples=SAMPLES, draws=DRAWS)  # type: ignore[arg-type]
        found[name] = [float(np.mean([known[path].loss(e) for e in es])) for path, es in errors.items()]
    return found


def _error(layer: Layer, width: int) -> Tensor:
    error = rounded(layer, width) - layer.weight.detach()
    return error if layer.mask is None else error * layer.mask
