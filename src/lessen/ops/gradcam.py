"""Where a model looks: Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391), by captum.

A map weighs a layer's channels by the mean gradient of one class's logit, adds them up and keeps what is positive.
"""

from __future__ import annotations

from torch import Tensor, enable_grad, nn, no_grad
from torch.nn import functional as F

from lessen.ops import layers
from lessen.ops.watching import Place, first_view, watching

SMALLEST = 8  # side of a layer's map below which a picture of it says little


def sizes(model: nn.Module, sample: Tensor) -> dict[str, tuple[int, int]]:
    """Height and width of the output of every module that gives maps (n, c, h, w), by path, in the order they end.

    Attention weights (n, heads, tokens, tokens) are none.
    """
    found: dict[str, tuple[int, int]] = {}

    def note(place: Place, y: object) -> None:
        found.pop(place[1], None)
        softmax = isinstance(model.get_submodule(place[1]), nn.Softmax)
        if isinstance(y, Tensor) and y.dim() == 4 and not softmax:
            found[place[1]] = (y.shape[2], y.shape[3])

    paths = [p for p, m in model.named_modules() if p and not isinstance(m, layers.Quantizer)]
    with watching(model, [("out", path) for path in paths], note), no_grad():
        model(sample)
    return found


def deepest(model: nn.Module, known: dict[str, tuple[int, int]]) -> str:
    """The last single layer whose map is large enough; empty when there is none."""
    single = [path for path, size in known.items() if min(size) >= SMALLEST and _is_single(model.get_submodule(path))]
    return single[-1] if single else ""


def _is_single(module: nn.Module) -> bool:
    return isinstance(module, layers._Site) or not any(True for _ in module.children())


def maps(model: nn.Module, path: str, x: Tensor, target: Tensor) -> Tensor:
    """Grad-CAM of classes `target` (n,) at a layer for inputs x (n, c, h, w), bilinear to their size: (n, h, w) >= 0.

    The model must be in evaluation mode and change nothing in place.
    """
    from captum.attr import LayerGradCam

    with enable_grad():  # through the input, so that a frozen model has gradients as well
        attribute = LayerGradCam(model, model.get_submodule(path)).attribute
        found = attribute(x.detach().requires_grad_(), target=target, relu_attributions=True)
    assert isinstance(found, Tensor)
    return F.interpolate(first_view(found.detach(), len(x)), x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
