"""Which channels live and die together, found by torch-pruning on a plain shadow of the model (Fang et al. 2023,
DepGraph, arXiv:2301.12900), and by name for the heads of an attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.ops import OPTYPE

from lessen.core.errors import Refused
from lessen.ops import layers, ties
from lessen.ops.graph import failing_layer

Role = Literal["out", "in", "depthwise", "norm", "bare"]  # bare: a parameter that stands in a user's module

PASSING = tuple(
    getattr(OPTYPE, name) for name in ("CONCAT", "SPLIT", "ELEMENTWISE", "RESHAPE", "UNBIND", "EXPAND", "SLICE")
)
ATTENTION = ("softmax", "scaleddotproduct", "bmm")  # autograd nodes between a head's projections


class Member(NamedTuple):
    """A tensor that loses entries along `dim` with a group's units: entry at[i] leaves with unit[i]."""

    path: str
    role: Role
    dim: int
    at: Tensor
    unit: Tensor


@dataclass(frozen=True)
class Coupled:
    """`n` units that each leave whole: a channel, one position in all parts of a grouped convolution, or a head."""

    path: str  # the narrowest layer that makes these channels
    n: int
    span: int  # channels of that layer in a unit
    members: tuple[Member, ...]
    root: Any = None  # torch-pruning's way in, from which the shadow is cut; None for heads
    cut: Any = None

    @property
    def producers(self) -> list[str]:
        """Paths of the layers whose output channels these are."""
        return [m.path for m in self.members if m.role in ("out", "depthwise")]

    def channels(self, units: list[int]) -> list[int]:
        """Positions of these units among the outputs of the layer at `path`."""
        first = self.members[0]
        return first.at[torch.isin(first.unit, torch.tensor(units, dtype=torch.long))].sort().values.tolist()


def dependencies(shadow: nn.Module, sample: Tensor) -> tp.DependencyGraph:
    """torch-pruning's graph of a plain model. Errors: Refused when the model cannot be traced, naming the module."""
    shadow.requires_grad_(True)
    try:
        return tp.DependencyGraph().build_dependency(shadow, example_inputs=(sample,), verbose=False)
    except Exception as e:  # whatever the user's forward or the tracer raises
        where = failing_layer(shadow, sample) or f"'{_untraced(shadow, sample)}': {_line(e)}"
        raise Refused(
            f"channels cannot be followed through this model at {where}; write that module of layers and plain "
            "tensor operations, or leave ChannelPrune out"
        ) from e


def _untraced(shadow: nn.Module, sample: Tensor) -> str:
    """The first module, the deepest first, through which no gradient comes, or in which the forward pass fails."""
    entered, cut_off = ["the model"], list[str]()

    def leave(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, result: Any) -> None:
            if not (isinstance(result, Tensor) and result.grad_fn is not None):
                cut_off.append(path)

        return hook

    handles = [m.register_forward_hook(leave(path)) for path, m in shadow.named_modules() if path]
    handles += [
        m.register_forward_pre_hook(lambda _m, _x, path=path: entered.append(path))
        for path, m in shadow.named_modules()
        if path
    ]
    try:
        with torch.enable_grad():
            shadow(sample)
    except Exception:  # it is why this is asked
        return (cut_off or entered[-1:])[0]
    finally:
        for handle in handles:
            handle.remove()
    return (cut_off or entered[:1])[0]


def find(
    graph: tp.DependencyGraph, real: nn.Module, whole: tuple[str, ...] = ()
) -> tuple[list[Coupled], dict[str, list[str]]]:
    """All groups of `real` that may be cut, and for each reason to stay the layers that do.

    whole: paths of layers, or of blocks, whose outputs stay.
    """
    shared = ties.shared(real)
    heads = [h for h in head_groups(real) if not any(covers(whole, p) for p in h.producers)]
    heads = [h for h in heads if not any(ties.holds(member(real, m.path), shared) for m in h.members)]
    by_heads = {path for h in heads for path in h.producers}
    found: list[Coupled] = []
    stay: dict[str, list[str]] = {}
    seen: set[str] = set(by_heads)
    for group in _groups(graph):
        producers = _producers(graph, group)
        seen.update(producers)
        if by_heads.intersection(producers):
            continue
        reason = _reason_to_stay(graph, group, real, whole, shared)
        if reason:
            stay.setdefault(reason, []).extend(producers or [_path(graph, group[0].dep.target)])
        else:
            found.append(_coupled(graph, group, real))
    lost = [path for path in layers.weighted(real) if path not in seen]
    if lost:
        stay["the tracer does not see them"] = lost
    return [*found, *heads], stay


def covers(names: tuple[str, ...], path: str) -> bool:
    """Whether a layer's path is among these paths of layers and blocks, or inside one."""
    return any(path == name or path.startswith(f"{name}.") for name in names)


def head_groups(real: nn.Module) -> Iterator[Coupled]:
    """The heads of every module that has layers `q`, `k`, `v` and `project` and a whole number `head_dim`.

    Such a module takes its number of heads from the width of q (see models/vit.py), so whole heads can go.
    """
    for path, module in real.named_modules():
        dim, names = getattr(module, "head_dim", None), ("q", "k", "v", "project")
        if not isinstance(dim, int) or not all(isinstance(getattr(module, name, None), nn.Module) for name in names):
            continue
        ends = [_end(f"{path}.{n}" if path else n, getattr(module, n), last=n != "project") for n in names]
        if not all(isinstance(layer, layers.Linear) for _, layer in ends):
            continue
        (*made, (reader, project)) = ends
        width = project.weight.shape[1]
        if width % dim or any(len(layer.weight) != width for _, layer in made):
            continue
        at = torch.arange(width)
        members = [Member(p, "out", 0, at, at // dim) for p, _ in made] + [Member(reader, "in", 1, at, at // dim)]
        yield Coupled(made[0][0], width // dim, dim, tuple(members))


def _end(path: str, module: Any, last: bool) -> tuple[str, Any]:
    """The layer itself, or the last or first of the pair that a factorization made of it."""
    if type(module) is nn.Sequential and len(module):
        index = len(module) - 1 if last else 0
        return f"{path}.{index}", module[index]
    return path, module


def _coupled(graph: tp.DependencyGraph, group: Any, real: nn.Module) -> Coupled:
    parts = max(_parts(group))
    n = len(group[0].idxs) // parts
    members = []
    for item in group:
        node, is_output = item.dep.target, graph.is_out_channel_pruning_fn(item.dep.handler)
        if node.type in PASSING:
            continue
        path = _path(graph, node)
        role, dim = _role(member(real, path), node, is_output)
        members.append(Member(path, role, dim, torch.tensor(item.idxs), torch.tensor(item.root_idxs) % n))
    root = group[0].dep
    return Coupled(_path(graph, root.target), n, parts, tuple(members), root.target.module, root.handler)


def _role(layer: Any, node: Any, is_output: bool) -> tuple[Role, int]:
    if isinstance(layer, nn.Parameter):
        return "bare", node.pruning_dim
    if not isinstance(layer, layers.Conv2d | layers.Linear):
        return "norm", 0
    if node.type == OPTYPE.DEPTHWISE_CONV:
        return "depthwise", 0
    return ("out", 0) if is_output else ("in", 1)


def _groups(graph: tp.DependencyGraph) -> Iterator[Any]:
    """One torch-pruning group, all its channels, for every layer that makes channels of its own.

    Its own `get_all_groups` also starts at depthwise convolutions, which after a concatenation rank several layers as
    one and can empty one of them. Here the narrowest layer of a group comes first, so that no other is narrower.
    """
    seen: set[nn.Module] = set()
    makers: list[Any] = [n.module for n in graph.module2node.values() if n.type in (OPTYPE.CONV, OPTYPE.LINEAR)]
    for maker in sorted(makers, key=lambda m: len(m.weight)):
        if maker in seen:
            continue
        pruner: Any = graph.get_pruner_of_module(maker)
        group = graph.get_pruning_group(maker, pruner.prune_out_channels, list(range(len(maker.weight))))
        seen.update(dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler))
        yield group


def _producers(graph: tp.DependencyGraph, group: Any) -> list[str]:
    """Paths of the layers whose output channels the group holds."""
    out = [dep.target for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
    return [_path(graph, node) for node in out if isinstance(node.module, nn.Conv2d | nn.Linear)]


def _reason_to_stay(
    graph: tp.DependencyGraph, group: Any, real: nn.Module, whole: tuple[str, ...], shared: set[int]
) -> str:
    """Why no channel of this group may go, or nothing."""
    for dep, indices in group:
        node, is_output = dep.target, graph.is_out_channel_pruning_fn(dep.handler)
        if is_output and not node.outputs:
            return "the model's output"
        if node.type in PASSING:
            if node.type == OPTYPE.ELEMENTWISE and any(a in str(node.module).lower() for a in ATTENTION):
                return "attention heads"
            continue
        path, width = _path(graph, node), (graph.get_out_channels if is_output else graph.get_in_channels)(node)
        layer = member(real, path)
        if ties.holds(layer, shared):
            return "coupled with a parameter that several layers share"
        if not _cuttable(layer):
            return f"coupled with a {type(layer).__name__} that cannot be cut"
        if _multiplies(layer):
            return "depthwise with a channel multiplier"
        if is_output and covers(whole, path):
            return "as asked"
        grouped = isinstance(layer, layers.Conv2d) and node.type == OPTYPE.CONV and layer.groups > 1
        if width is None or max(indices) >= width or (grouped and len(indices) < width):
            return f"its channels do not fit those of {path}"
    parts = _parts(group)
    return "groups of different sizes" if any(max(parts) % p for p in parts) else ""


def _cuttable(layer: Any) -> bool:
    """Whether a replay can cut it: a spec describes these layers, a bare parameter takes its stored shape."""
    if isinstance(layer, layers.BatchNorm2d):
        return layer.affine and layer.track_running_stats
    if isinstance(layer, layers.LayerNorm):
        return layer.elementwise_affine and len(layer.normalized_shape) == 1
    return isinstance(layer, layers.Conv2d | layers.Linear | nn.Parameter)


def _multiplies(layer: Any) -> bool:
    """torch-pruning takes groups == out_channels for depthwise, whatever the input is."""
    if not isinstance(layer, layers.Conv2d) or layer.groups == 1:
        return False
    return layer.groups in (layer.in_channels, layer.out_channels) and layer.in_channels != layer.out_channels


def _parts(group: Any) -> list[int]:
    """Channel groups of the grouped (not depthwise) convolutions among the members; [1] when there are none."""
    members = {dep.target.module for dep, _ in group if dep.target.type == OPTYPE.CONV}
    return [1, *(m.groups for m in members)]


def member(model: nn.Module, path: str) -> Any:
    """The layer or bare parameter at a path."""
    parent, _, name = path.rpartition(".")
    return getattr(model.get_submodule(parent), name)


def _path(graph: tp.DependencyGraph, node: Any) -> str:
    if node.type == OPTYPE.PARAMETER:
        return graph._param_to_name[node.module]
    return graph._module2name.get(node.module, "")


def _line(error: BaseException) -> str:
    """The first error's message: torch-pruning tries again in another way, and that failure tells nothing."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split()) or type(error).__name__
