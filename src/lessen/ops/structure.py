"""A model is data, never a pickle: what differs from a fresh build, as JSON specs, plus its tensors.

Specs come from comparing the model with a fresh build when it is saved: the comparison goes down while type and
child names agree; where they differ that subtree is one nested spec. Techniques log nothing, so their order
never matters. A module that stands at several paths is described at its first; the others say "same_as" that one,
unless the fresh build says so already.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from lessen.core.errors import BadArtifact
from lessen.ops import layers, quantizers, ties

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
    nn.Dropout: ("p", "inplace"),
    nn.Flatten: ("start_dim", "end_dim"),
    **dict.fromkeys((layers.ReLU, layers.ReLU6, layers.SiLU), ("inplace",)),
    **dict.fromkeys((layers.Sigmoid, layers.Add, layers.Mul, layers.Cat, nn.Identity), ()),
}
TYPES = {kind.__name__: kind for kind in (*ARGUMENTS, nn.Sequential)}


def differences(model: nn.Module, fresh: nn.Module) -> dict[str, Spec]:
    """Path -> spec of every subtree of `model` that differs from `fresh`; both are made our own first."""
    found: dict[str, Spec] = {}
    _compare(layers.own(model), layers.own(fresh), "", found, {}, {})
    return found


def _compare(
    model: nn.Module, fresh: nn.Module, path: str, found: dict[str, Spec], met: dict[int, str], built: dict[int, str]
) -> None:
    """met, built: where each module of the model, and of the fresh build, was met first."""
    first, first_built = met.get(id(model), path), built.setdefault(id(fresh), path)
    if first != first_built:
        found[path] = describe(model, path, met)
    elif first != path:
        return  # met before, and shared in the same way by the build
    elif type(model) in ARGUMENTS:
        spec = describe(model, path, met)
        if type(fresh) not in ARGUMENTS or spec != describe(fresh, path):
            found[path] = spec
    elif not same_kind(model, fresh) or _children(model) != _children(fresh):
        found[path] = describe(model, path, met)
    else:
        met[id(model)] = path
        for name, child in model._modules.items():
            twin = fresh._modules[name]
            if child is not None and twin is not None:
                _compare(child, twin, f"{path}.{name}" if path else name, found, met, built)


def _children(module: nn.Module) -> list[tuple[str, bool]]:
    """Names of the children, and whether there is one of that name."""
    return [(name, child is None) for name, child in module._modules.items()]


def same_kind(a: nn.Module, b: nn.Module) -> bool:
    """Whether both are of one class. One made inside a builder is a new object at every call, of the same name."""
    name = lambda x: (type(x).__module__, type(x).__qualname__)  # noqa: E731
    made = "<locals>" in type(a).__qualname__ or is_parametrized(a)
    return type(a) is type(b) or (made and name(a) == name(b))


def describe(module: nn.Module, path: str = "", met: dict[int, str] | None = None) -> Spec:
    """The spec of one layer or Sequential, or of which earlier one it is; `met` says where each was met first.

    Errors: BadArtifact for a type that specs do not know.
    """
    met = {} if met is None else met
    if id(module) in met:
        return {"same_as": met[id(module)]}
    met[id(module)] = path
    kind = type(module)
    if kind is nn.Sequential:
        inner = f"{path}." if path else ""
        children = {n: describe(m, inner + n, met) for n, m in module._modules.items() if m is not None}
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
    for slot in layers.SLOTS:
        quantizer = getattr(module, slot, None)
        if quantizer is not None:
            spec[slot] = quantizer.spec()
    return spec


def make(spec: Spec, path: str = "", made: dict[str, nn.Module] | None = None) -> nn.Module:
    """The layer that a spec describes, with empty slots of the right shape; `made` are those so far, by path.

    Errors: BadArtifact.
    """
    made = {} if made is None else made
    if "same_as" in spec:
        if spec["same_as"] not in made:
            raise BadArtifact(f"structure.json says that '{path}' is '{spec['same_as']}', which it does not have")
        return made[spec["same_as"]]
    kind = TYPES.get(spec.get("type", ""))
    if kind is None:
        raise BadArtifact(f"structure.json names an unknown layer type in {spec}")
    if kind is nn.Sequential:
        inner = f"{path}." if path else ""
        children = ((name, make(child, inner + name, made)) for name, child in spec["children"].items())
        made[path] = nn.Sequential(OrderedDict(children))
    else:
        made[path] = _layer(kind, spec)
    return made[path]


def _layer(kind: Any, spec: Spec) -> nn.Module:
    slots = {slot: spec[slot] for slot in layers.SLOTS if slot in spec}
    arguments = {k: v for k, v in spec.items() if k not in (*slots, "type", "mask")}
    module = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()})
    if spec.get("mask"):
        module.mask = torch.ones_like(module.weight, dtype=torch.bool)
    if "wq" in slots:
        module.wq = quantizers.make_weight(module.weight, slots["wq"])
    for slot in ("iq", "oq"):
        if slot in slots:
            setattr(module, slot, quantizers.make_activation(slots[slot]))
    return module


def restore(
    fresh: nn.Module, specs: dict[str, Spec], tensors: dict[str, Tensor], tied: Sequence[Sequence[str]] = ()
) -> nn.Module:
    """Rebuild: put every spec's subtree into a fresh build, then load all tensors strictly; what it froze stays so.

    tied: names of parameters that are one (`ties.ties`). Errors: BadArtifact.
    """
    model = layers.own(fresh)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    model = _rebuilt(model, specs)
    _resize_bare_parameters(model, tensors)
    masks = {f"{path}.mask" for path in layers.weighted(model)} & set(tensors)
    try:
        model.load_state_dict({k: v for k, v in tensors.items() if k not in masks}, strict=True, assign=True)
    except RuntimeError as e:
        raise BadArtifact(f"weights do not fit the structure: {' '.join(str(e).split())}") from None
    left = sorted(set(tensors) - masks - set(model.state_dict()))  # an empty slot hides its tensors from torch
    if left:
        raise BadArtifact(f"weights do not fit the structure: it has no place for '{left[0]}'; pack the model again")
    ties.tie(model, tied)
    for path, module in layers.weighted(model).items():
        if module.mask is not None:
            module.mask = tensors.get(f"{path}.mask", module.weight.detach() != 0)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.is_floating_point() and name not in frozen)
    return model


def _rebuilt(model: nn.Module, specs: dict[str, Spec]) -> nn.Module:
    """With every spec's subtree in its place: wherever the build has what stood at its path, but for other specs'."""
    made = dict(model.named_modules(remove_duplicate=False))
    homes: dict[int, list[str]] = {}
    for path, module in made.items():
        if not any(path.startswith(f"{spec}.") for spec in specs):  # that one leaves with what is around it
            homes.setdefault(id(module), []).append(path)
    places = {paths[0]: paths for paths in homes.values()}
    for path, spec in specs.items():
        new = make(spec, path, made)
        if not path:
            return new
        for home in (path, *(p for p in places.get(path, ()) if p not in specs)):
            parent, _, name = home.rpartition(".")
            model.get_submodule(parent).register_module(name, new)
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
