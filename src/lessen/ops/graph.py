"""How layers feed each other: which batch norm follows which convolution, and where quantizers must stand."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import torch
from torch import fx, nn

from lessen.ops import layers
from lessen.ops.modes import evaluating

FUSED = (layers.ReLU, layers.ReLU6)  # run inside the integer kernel of the layer before them
POOLS = (layers.AvgPool2d, layers.AdaptiveAvgPool2d)
PASS = (layers.MaxPool2d, nn.MaxPool2d, nn.Dropout, nn.Identity)  # an output value is an input value
RESHAPES = (nn.Flatten, torch.flatten, torch.reshape, torch.transpose, torch.permute, operator.getitem)
RESHAPE_METHODS = {"flatten", "reshape", "view", "transpose", "permute", "contiguous", "squeeze", "unsqueeze"}


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.leaves or super().is_leaf_module(m, module_qualified_name)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.leaves = set(layers.sites(model))


def trace(model: nn.Module) -> fx.Graph | None:
    """The model's layers as a graph, our layers whole; None when its Python code cannot be traced."""
    try:
        return _Tracer(model).trace(model)
    except Exception:  # fx raises whatever the user's forward raises on a proxy
        return None


def ends(model: nn.Module) -> tuple[str, ...]:
    """Paths of the layers with weights that compute first and last; of one layer alone, it twice; () without any."""
    graph, weighted = trace(model), layers.weighted(model)
    order = [str(n.target) for n in graph.nodes if n.op == "call_module"] if graph is not None else list(weighted)
    computed = [path for path in order if path in weighted]
    return (*computed[:1], *computed[-1:])


def last(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> nn.Module | None:
    """The layer of these kinds that computes last, by itself or by its weights in a function of the model's own.

    Where that cannot be traced, the one defined last.
    """
    modules = dict(model.named_modules())
    with evaluating(model):  # without what only training computes, as second heads
        graph = trace(model)
    used = [n for n in graph.nodes if n.op in ("call_module", "get_attr")] if graph is not None else []
    order = [str(n.target) if n.op == "call_module" else str(n.target).rpartition(".")[0] for n in used]
    return next((modules[p] for p in reversed([*modules, *order]) if isinstance(modules.get(p), kinds)), None)


def norm_pairs(model: nn.Module) -> dict[str, str]:
    """Path of every batch norm that alone reads one convolution's output -> path of that convolution.

    Only of norms that can be folded: with statistics of their own, behind a weight that is stored.
    """
    graph, modules = trace(model), dict(model.named_modules())
    pairs: dict[str, str] = {}
    if graph is None:
        return pairs
    for node in graph.nodes:
        if node.op != "call_module" or not _folds(modules[node.target]):
            continue
        source = node.args[0]
        if not (isinstance(source, fx.Node) and source.op == "call_module" and len(source.users) == 1):
            continue
        once = sum(n.op == "call_module" and n.target in (node.target, source.target) for n in graph.nodes) == 2
        conv = modules[str(source.target)]
        if once and type(conv) in (nn.Conv2d, layers.Conv2d) and not layers.computed(conv):
            pairs[str(node.target)] = str(source.target)
    return pairs


def _folds(module: nn.Module | None) -> bool:
    """Whether it is a batch norm with running statistics: another one takes those of each batch."""
    return isinstance(module, nn.BatchNorm2d) and module.running_mean is not None


class Places(NamedTuple):
    """Paths of layers that need a quantizer on their output, and on their input."""

    outputs: tuple[str, ...]
    inputs: tuple[str, ...]
    traced: bool


def quantizer_places(model: nn.Module) -> Places:
    """One quantizer for every produced tensor that an integer kernel reads or writes; none on the logits, where two of
    them would become equal.

    A convolution whose only reader is its batch norm, and either whose only reader is a ReLU, are computed by one
    kernel, so the quantizer stands at the end. Weighted layers whose input has none get one on their input, and so does
    a Linear behind a reshape, because the runtime fuses only quantizers that stand right before it.
    """
    graph, modules = trace(model), dict(model.named_modules())
    if graph is None:
        return Places((), tuple(layers.weighted(model)), False)
    outputs: list[str] = []
    inputs: list[str] = []
    quantized: set[fx.Node] = set()
    for node in graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        source = next((a for a in node.args if isinstance(a, fx.Node)), None)
        behind_reshape = source is not None and _reshapes(source, modules)
        if isinstance(module, layers.Conv2d | layers.Linear) and (source not in quantized or behind_reshape):
            inputs.append(str(node.target))
        if isinstance(module, PASS) or _reshapes(node, modules):
            if source in quantized:
                quantized.add(node)
        elif (
            isinstance(module, layers._Site)
            and not _is_last(node, modules)
            and not _computed_with_reader(module, node, modules)
        ):
            if isinstance(module, POOLS) and all(_reshapes(user, modules) for user in node.users):
                continue  # the Linear behind has the quantizer
            if isinstance(module, layers.LayerNorm) and all(_averages(user) for user in node.users):
                continue  # floats on both sides; OpenVINO averages uint8 with a zero point wrongly
            outputs.append(str(node.target))
            quantized.add(node)
    return Places(tuple(dict.fromkeys(outputs)), tuple(dict.fromkeys(inputs)), True)


def input_readers(model: nn.Module) -> set[str]:
    """Paths of the layers that read the model's own input."""
    graph = trace(model)
    starts = [n for n in graph.nodes if n.op == "placeholder"] if graph is not None else []
    return {str(user.target) for start in starts for user in start.users if user.op == "call_module"}


def flat_readers(model: nn.Module) -> set[str]:
    """Paths of the Linear layers whose input has two axes, (n, features): exporters make a Gemm of them, biases in it.

    Of a model that cannot be traced, all.
    """
    graph, modules = trace(model), dict(model.named_modules())
    if graph is None:
        return {path for path, m in modules.items() if isinstance(m, nn.Linear)}
    axes: dict[fx.Node, int] = {}
    found: set[str] = set()
    for node in graph.nodes:
        before = max((axes[source] for source in node.all_input_nodes), default=0)
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Linear) and before == 2:
            found.add(str(node.target))
        images = not any(isinstance(modules.get(str(user.target)), nn.Linear) for user in node.users)
        axes[node] = (4 if images else 2) if node.op == "placeholder" else before + _axes_won(node, module, before)
    return found


def _axes_won(node: fx.Node, module: nn.Module | None, before: int) -> int:
    """How many axes more than its input an operation's output has."""
    name = str(getattr(node.target, "__name__", node.target))
    if isinstance(module, nn.Flatten):
        return module.start_dim + 1 - before
    given: list[Any] = [*node.args[1:], *node.kwargs.values()]
    first = given[0] if given else 0
    match name:
        case "flatten":
            return int(first) + 1 - before
        case "reshape" | "view":
            return len(first if isinstance(first, tuple | list) else given) - before
        case "unflatten":
            return len(given[1]) - 1
        case "unsqueeze":
            return 1
        case "squeeze" | "mean" | "sum" | "amax" | "select":
            return -(len(first) if isinstance(first, tuple | list) else 1) * (not node.kwargs.get("keepdim"))
        case "getitem":
            return -sum(isinstance(i, int) for i in (first if isinstance(first, tuple) else (first,)))
        case _:
            return 0


def _reshapes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.Flatten)
    return node.target in (RESHAPES if node.op == "call_function" else RESHAPE_METHODS)


def _averages(node: fx.Node) -> bool:
    return node.target in ("mean", torch.mean)


def _is_last(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether it gives the logits: nothing but their shares or another shape is made of them."""
    return any(
        user.op == "output" or ((_shares(user, modules) or _reshapes(user, modules)) and _is_last(user, modules))
        for user in node.users
    )


def _shares(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.Softmax | nn.LogSoftmax)
    return str(getattr(node.target, "__name__", node.target)) in ("softmax", "log_softmax")


def _computed_with_reader(module: nn.Module, node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if len(node.users) != 1:
        return False
    user = next(iter(node.users))
    reader = modules.get(str(user.target)) if user.op == "call_module" else None
    if isinstance(module, layers.Conv2d) and _folds(reader):
        return True
    fuses = isinstance(module, layers.Conv2d | layers.Linear | layers.BatchNorm2d | layers.Add)
    return fuses and isinstance(reader, FUSED)


def failing_layer(model: nn.Module, sample: torch.Tensor) -> str:
    """Path and message of the layer at which a forward pass of `sample` fails; empty when it runs."""
    entered = [""]
    handles = [
        module.register_forward_pre_hook(lambda _module, _args, path=path: entered.append(path))
        for path, module in model.named_modules()
    ]
    try:
        with evaluating(model), torch.no_grad():
            model(sample)
    except Exception as e:  # whatever the user's forward raises
        return f"'{entered[-1]}': {' '.join(str(e).split()) or type(e).__name__}"
    finally:
        for handle in handles:
            handle.remove()
    return ""
