"""What the contract suite stands on: every technique by rule, a tiny trained net, and what a compression has won."""

from __future__ import annotations

import hashlib
import math
import random
from functools import cache
from itertools import islice, product
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from lessen import catalog, models, tasks
from lessen.core.errors import Refused
from lessen.core.record import Cost, Record
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique
from lessen.ops import layers, structure
from lessen.ops.graph import quantizer_places

NAMES = tuple(catalog.techniques())
PAIRS = tuple(product(NAMES, NAMES))
NET, SEED = "resnet8(width=0.5)", 7
FEW: dict[str, Any] = {"widths": (0.75, 0.5), "generations": 1, "count": 2}  # where one technique trains several nets


def quick(name: str) -> Technique:
    """The technique at its defaults; one that trains does so for one epoch in small batches, with few nets."""
    cls = catalog.technique(name)
    few = {field: value for field, value in FEW.items() if cls.trains and field in cls.model_fields}
    return cls(**({"epochs": 1, "batch": 50, **few} if cls.trains else {}))


class Field(NamedTuple):
    """A field as its author declared it."""

    name: str
    kind: Any  # the type without its notes
    note: Doc
    default: Any

    @property
    def range(self) -> Range | None:
        return self.note if isinstance(self.note, Range) else None

    def others(self) -> list[Any]:
        """Valid values away from the default."""
        return [v for v in valid(self.kind, self.range) if v != self.default]


def valid(kind: Any, span: Range | None = None) -> list[Any]:
    """Some values of a type, the ends of its range among them."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        return valid(inner, next((n for n in notes if isinstance(n, Range)), span))
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        if rest == [...]:
            found = valid(first, span)
            return [(), (found[0],), tuple(found[:2])]
        columns = [valid(part, span) for part in (first, *rest)]
        return [tuple(column[i % len(column)] for column in columns) for i in range(2)]
    if kind is int or kind is float:
        low, high = (span.low, span.high) if span else (1, 2)
        return [int(low), int(high)] if kind is int else [float(low), float(high), (low + high) / 2]
    return {bool: [True, False], str: ["a", "a(b='c')", ""]}[kind]


def fields(name: str) -> list[Field]:
    """Every field with its one line of doc; fails for a field that has none."""
    cls = catalog.technique(name)
    hints = get_type_hints(cls, include_extras=True)
    found = []
    for field, info in cls.model_fields.items():
        kind, *notes = get_args(hints[field])
        note = next((n for n in notes if isinstance(n, Doc)), None)
        assert note is not None, f"{name}.{field} has neither Doc nor Range"
        found.append(Field(field, kind, note, info.default))
    return found


@cache
def task() -> Task:
    """Digits, with 400 images to train on."""
    return tasks.task("digits(limit=400, validation=100)")


@cache
def net() -> nn.Module:
    """A residual net that has been trained for a moment: right on most digits, not on all."""
    from lessen.ops.train import Plan, fit

    with task().seeded(SEED):
        return fit(task().build(NET), task(), Plan(epochs=6, batch=32, lr=0.1), Run()).eval()


class After(NamedTuple):
    """A model, the texts of what was done to it, and the records."""

    model: nn.Module
    done: tuple[str, ...]
    records: tuple[Record, ...]


@cache
def after(*names: str) -> After | Refused:
    """The tiny net after these techniques in order, or the refusal of the last; a refused beginning is no order."""
    if not names:
        return After(net(), (), ())
    before = after(*names[:-1])
    assert isinstance(before, After), f"{names[:-1]} is refused already"
    try:
        model, record = quick(names[-1]).apply(before.model, task(), seed=SEED, run=Run(origin=net(), done=before.done))
    except Refused as e:
        return e
    return After(model.eval(), (*before.done, record.technique), (*before.records, record))


class Won(NamedTuple):
    """What must never grow again: counted on masks, specs and shapes."""

    live: int  # weights that no mask holds at zero
    unmasked: int | None  # weights in layers without a mask; None for a net with no mask at all
    float_weights: int  # weights without a quantizer
    bare_places: int | None  # places of an integer net that lack a quantizer; None for a net with float activations
    parameters: int
    macs: int
    weight_bits: int  # of weights and their scales; float activations have no scales that could be compared

    def lost(self, then: Won) -> list[str]:
        """Names of what has grown from this model to `then`."""
        pairs = zip(self._fields, self, then, strict=True)
        return [f"{name}: {a} -> {b}" for name, a, b in pairs if a is not None and (b is None or b > a)]


def won(model: nn.Module) -> Won:
    weighted = layers.weighted(layers.own(model)).values()
    cost: Cost = task().cost(model)
    scales = sum(isinstance(m, layers.ActivationQuantizer | layers.SignActivations) for m in model.modules())
    unmasked = sum(m.weight.numel() for m in weighted if m.mask is None)
    return Won(
        sum(m.weight.numel() if m.mask is None else int(m.mask.sum()) for m in weighted),
        unmasked if any(m.mask is not None for m in weighted) else None,
        sum(m.weight.numel() for m in weighted if m.wq is None),
        bare_places(model), cost.parameters, cost.macs, cost.weight_bits - 32 * scales,
    )  # fmt: skip


def bare_places(model: nn.Module) -> int | None:
    """Tensors that integer kernels would pass on as floats."""
    if not any(isinstance(m, layers.ActivationQuantizer) for m in model.modules()):
        return None
    places, sites = quantizer_places(model), layers.sites(model)
    return sum(sites[p].oq is None for p in places.outputs) + sum(sites[p].iq is None for p in places.inputs)


@cache
def chain(length: int, i: int) -> tuple[str, ...]:
    """The i-th chain of so many techniques that is not refused, in a seeded order of all chains."""
    every = list(product(NAMES, repeat=length))
    random.Random(SEED).shuffle(every)
    composed = (c for c in every if all(isinstance(after(*c[:n]), After) for n in range(1, length + 1)))
    return next(islice(composed, i, None))


def samples(n: int = 100) -> Tensor:
    """Model inputs of the test split (n, 1, 8, 8)."""
    return task().inputs(task().split("test").x[:n])


@torch.inference_mode()
def logits(model: nn.Module, n: int = 100) -> Tensor:
    return model.eval()(samples(n))


def digest(model: nn.Module) -> str:
    """A hash over structure, masks, modes and every bit of the state."""
    found = hashlib.sha256(repr(model).encode())
    found.update(repr([m.training for m in model.modules()]).encode())
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        found.update(f"{name} {value.dtype} {tuple(value.shape)} {value.requires_grad}".encode())
        found.update(value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def rebuilt(model: nn.Module) -> nn.Module:
    """The model again from its specs and tensors alone."""

    def fresh() -> nn.Module:
        return models.rebuild(model.builder)  # type: ignore[arg-type]

    tensors = {k: v.clone() for k, v in structure.tensors(model).items()}
    return structure.restore(fresh(), structure.differences(model, fresh()), tensors)


def beyond(limit: float, way: int) -> float:
    """The next number outside a range's end."""
    return math.nextafter(limit, way * math.inf)
