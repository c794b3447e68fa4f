"""A model is data, never a pickle: what differs from a fresh build, as JSON specs, plus its tensors.

Specs come from comparing the model with a fresh build when it is saved: the comparison goes down while type and
child names agree; where they differ that subtree is one nested spec. Techniques log nothing, so their order
never matters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lessen.core.errors import BadArtifact
from lessen.ops import layers, quantizers

Spec = dict[str, Any]

ARGUMENTS: dict[type[nn.Module], tuple[str, ...]] = {
    layers.Conv2d: ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    + ("padding_mode",),
    layers.Linear: ("in_features", "out_features"),
    layers.BatchNorm2d: ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    layers.LayerNorm: ("normalized_shape", "eps", "elementwise_affine"),
    layers.MaxPool2d: ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    layers.AvgPool2d: ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    layers.AdaptiveAvgPool2d: ("output_size",),
    layers.GELU: ("approximate",),
    nn.Dropout: ("p",),
    nn.Flatten: ("start_dim", "end_dim"),
    **dict.fromkeys(
        (layers.ReLU, layers.ReLU6, layers.SiLU, layers.Sigmoid, layers.Add, layers.Mul, layers.Cat, nn.Identity), ()
    ),
}
TYPES = {kind.__name__: kind for kind in (*ARGUMENTS, nn.Sequential)}


def differences(model: nn.Module, fresh: nn.Module) -> dict[str, Spec]:
    """Path -> spec of every subtree of `model` that differs from `fresh`; both are made our own first."""
    found: dict[str, Spec] = {}
    _compare(layers.own(model), layers.own(fresh), "", found)
    return found


def _compare(model: nn.Module, fresh: nn.Module, path: str, found: dict[str, Spec]) -> None:
    if type(model) in ARGUMENTS:
        spec = describe(model, path)
        if type(fresh) not in ARGUMENTS or spec != describe(fresh, path):
            found[path] = spec
    elif not same_kind(model, fresh) or list(model._modules) != list(fresh._modules):
        found[path] = describe(model, path)
    else:
        for name, child in model.named_children():
            _compare(child, fresh._modules[name] or nn.Identity(), f"{path}.{name}" if path else name, found)


def same_kind(a: nn.Module, b: nn.Module) -> bool:
    """Whether both are of one class. One written inside a builder is a new object at every call, of the same name."""
    name = lambda x: (type(x).__module__, type(x).__qualname__)  # noqa: E731
    return type(a) is type(b) or ("<locals>" in type(a).__qualname__ and name(a) == name(b))


def describe(module: nn.Module, path: str = "") -> Spec:
    """The spec of one layer or Sequential. Errors: BadArtifact for a type that specs do not know."""
    kind = type(module)
    if kind is nn.Sequential:
        children = {name: describe(child, f"{path}.{name}") for name, child in module.named_children()}
        return {"type": "Sequential", "children": children}
    if kind not in ARGUMENTS:
        raise BadArtifact(
            f"'{path or 'the model'}' is a {kind.__name__}, which cannot be described as data; "
            "build the model by a function and name it as package.module:function"
        )
    spec: Spec = {"type": kind.__name__, **{a: _json(getattr(module, a)) for a in ARGUMENTS[kind]}}
    if isinstance(module, layers.Conv2d | layers.Linear | layers.LayerNorm):
        spec["bias"] = module.bias is not None
    if isinstance(module, layers.Conv2d | layers.Linear):
        spec["mask"] = module.mask is not None
    for slot in ("wq", "iq", "oq"):
        quantizer = getattr(module, slot, None)
        if quantizer is not None:
            spec[slot] = quantizer.spec()
    return spec


def make(spec: Spec) -> nn.Module:
    """The layer that a spec describes, with empty slots of the right shape. Errors: BadArtifact."""
    spec = dict(spec)
    kind = TYPES.get(spec.pop("type", ""))
    if kind is None:
        raise BadArtifact(f"structure.json names an unknown layer type in {spec}")
    if kind is nn.Sequential:
        from collections import OrderedDict

        return nn.Sequential(OrderedDict((name, make(child)) for name, child in spec["children"].items()))
    slots = {slot: spec.pop(slot) for slot in ("wq", "iq", "oq") if slot in spec}
    mask = spec.pop("mask", False)
    module: Any = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()})
    if mask:
        module.mask = torch.ones_like(module.weight, dtype=torch.bool)
    if "wq" in slots:
        module.wq = quantizers.make_weight(module.weight, slots["wq"])
    for slot in ("iq", "oq"):
        if slot in slots:
            setattr(module, slot, quantizers.make_activation(slots[slot]))
    return module


def restore(fresh: nn.Module, specs: dict[str, Spec], tensors: dict[str, Tensor]) -> nn.Module:
    """Rebuild: put every spec's subtree into a fresh build, then load all tensors strictly; what it froze stays so."""
    model = layers.own(fresh)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    for path, spec in specs.items():
        if not path:
            model = make(spec)
            continue
        parent, _, name = path.rpartition(".")
        model.get_submodule(parent).register_module(name, make(spec))
    _resize_bare_parameters(model, tensors)
    masks = {f"{path}.mask" for path in layers.weighted(model)} & set(tensors)
    try:
        model.load_state_dict({k: v for k, v in tensors.items() if k not in masks}, strict=True, assign=True)
    except RuntimeError as e:
        raise BadArtifact(f"weights do not fit the structure: {' '.join(str(e).split())}") from None
    for path, module in layers.weighted(model).items():
        if module.mask is not None:
            module.mask = tensors.get(f"{path}.mask", module.weight.detach() != 0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.is_floating_point() and name not in frozen)
    return model


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of the state, contiguous and unshared, on the CPU: what safetensors takes.

    A mask is told by the zeros of its weight; it is kept as `<path>.mask` only where a living weight is zero too.
    """
    seen: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        value = value.detach().cpu().contiguous()
        found[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    for path, layer in layers.weighted(model).items():
        if layer.mask is not None and not torch.equal(layer.mask, layer.weight != 0):
            found[f"{path}.mask"] = layer.mask.detach().cpu().contiguous()
    return found


def _resize_bare_parameters(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Parameters that stand directly in a user's module (a position embedding) take their stored shape."""
    for path, module in model.named_modules():
        if type(module) in ARGUMENTS:
            continue
        for name, value in list(module.named_parameters(recurse=False)):
            stored = tensors.get(f"{path}.{name}" if path else name)
            if stored is not None and stored.shape != value.shape:
                setattr(module, name, nn.Parameter(torch.empty_like(stored)))


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
