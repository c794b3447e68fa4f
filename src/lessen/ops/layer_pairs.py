"""Which layer of a student learns from which of its teacher, by the shapes of what they give.

A layer gives maps (n, c, h, w), tokens (n, t, d), which stand on a square grid where t is one, or vectors (n, d).
The end of a stage is the last output of its size, as FitNets' "hint" and attention transfer take it (Romero et al.
2015, arXiv:1412.6550; Zagoruyko & Komodakis 2017, arXiv:1612.03928).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lessen.core.errors import Refused, UnknownName
from lessen.core.task import Task
from lessen.ops import layers
from lessen.ops.modes import evaluating
from lessen.ops.watching import Place, watching

PASS = (nn.LayerNorm, nn.Dropout, nn.Identity, nn.Flatten)  # after a layer norm every token is equally long


class Output(NamedTuple):
    """What a layer gives of one sample: (c, h, w), (t, d) or (d,). own: it is no other layer's output handed on."""

    path: str
    shape: tuple[int, ...]
    own: bool = True

    @property
    def channels(self) -> int:
        return self.shape[0] if len(self.shape) == 3 else self.shape[-1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; tokens that fill no square stand in one column, a vector has a size of (1, 1).

        >>> Output("a", (49, 8)).size, Output("a", (50, 8)).size, Output("a", (8,)).size
        ((7, 7), (50, 1), (1, 1))
        """
        if len(self.shape) == 3:
            return self.shape[1], self.shape[2]
        tokens = self.shape[0] if len(self.shape) == 2 else 1
        side = math.isqrt(tokens)
        return (side, side) if side * side == tokens else (tokens, 1)

    @property
    def column(self) -> bool:
        """Tokens that fill no square: there is no telling where they lie on a map."""
        return len(self.shape) == 2 and self.size[1] == 1 < self.size[0]

    def __str__(self) -> str:
        return f"{self.path} {'x'.join(map(str, self.shape))}"


class Pair(NamedTuple):
    """Two layers, and the size that both are pooled to."""

    student: Output
    teacher: Output

    @property
    def size(self) -> tuple[int, int]:
        (a, b), (c, d) = self.student.size, self.teacher.size
        return min(a, c), min(b, d)

    @property
    def pooled(self) -> bool:
        return self.student.size != self.teacher.size


def outputs(model: nn.Module, x: Tensor) -> list[Output]:
    """Of every layer from the first weights up to the head, in the order they end, for inputs x (1, ...).

    The head is the last Linear to run, and where there is none, what gives the model's answer. Attention weights and
    quantizers are no layers here; of a layer that runs twice its last output counts.
    """
    ran, answer = _ran(model, x)
    head = _last_linear(model, ran)
    before = list(ran)[: list(ran).index(head)] if head else [path for path, y in ran.items() if y is not answer]
    found: list[Output] = []
    handed: set[int] = set()
    weights = False
    for path in before:
        module, y = model.get_submodule(path), ran[path]
        weights = weights or isinstance(module, nn.Conv2d | nn.Linear)
        if weights and isinstance(y, Tensor) and y.dim() in (2, 3, 4):
            found.append(Output(path, tuple(y.shape[1:]), id(y) not in handed and not isinstance(module, PASS)))
            handed.add(id(y))
    return found


def head(technique: str, side: str, model: nn.Module, task: Task) -> str:
    """Path of the last Linear to run; what it reads are the penultimate features. Errors: Refused without one."""
    path = _last_linear(model, _ran(model, _sample(model, task))[0])
    if not path:
        raise Refused(f"{technique} finds no Linear head in the {side}; use a {side} that ends in one")
    return path


def between(
    technique: str,
    student: nn.Module,
    teacher: nn.Module,
    task: Task,
    paths: Sequence[tuple[str, str]] = (),
    places: int = 1,
) -> tuple[Pair, ...]:
    """The pairs of these (student's, teacher's) paths; without any, those found by shape.

    places: as of `find`; above 1, no vectors may be named. Errors: UnknownName with the nearest path, Refused.
    """
    ours, theirs = outputs(student, _sample(student, task)), outputs(teacher, _sample(teacher, task))
    if not paths:
        return find(technique, ours, theirs, places)
    found = named(technique, paths, ours, theirs)
    for pair in found:
        if places > 1 and pair.size == (1, 1):
            raise Refused(
                f"{technique} cannot compare {pair.student} with {pair.teacher}: one place alone is no map; "
                "name layers with maps or tokens"
            )
    return found


def _sample(model: nn.Module, task: Task) -> Tensor:
    """One calibration sample (1, ...) on the model's device."""
    return task.inputs(task.split("calibration").x[:1]).to(next(model.parameters()).device)


def _ran(model: nn.Module, x: Tensor) -> tuple[dict[str, Any], Any]:
    """What every module gives, in the order they end, and the model's answer."""
    found: dict[str, Any] = {}

    def note(place: Place, y: Any) -> None:
        found.pop(place[1], None)
        found[place[1]] = y

    places = [("out", p) for p, m in model.named_modules() if p and not isinstance(m, layers.Quantizer | nn.Softmax)]
    with evaluating(model), watching(model, places, note), torch.inference_mode():
        answer = model(x)
    return found, answer


def _last_linear(model: nn.Module, ran: Iterable[str]) -> str:
    return next((p for p in reversed(list(ran)) if isinstance(model.get_submodule(p), nn.Linear)), "")


def ends(found: Iterable[Output]) -> list[Output]:
    """The last layer of each size, in the order they end."""
    last: dict[tuple[tuple[int, int], bool], Output] = {}
    for output in found:
        if output.own:
            last.pop((output.size, output.column), None)
            last[output.size, output.column] = output
    return list(last.values())


def find(technique: str, student: Sequence[Output], teacher: Sequence[Output], places: int = 1) -> tuple[Pair, ...]:
    """Ends of stages of equal size, shallow to deep; where no size is shared, from the deepest up, to be pooled.

    places: stages whose maps have fewer are left out unless that leaves no pair; at 1, the last vectors of both are a
    pair where one side has no maps. Errors: Refused that lists both models' stages.
    """
    ours, theirs = ends(student), ends(teacher)
    for least in (max(2, places), 2):
        large = [[o for o in side if math.prod(o.size) >= least] for side in (ours, theirs)]
        by_size = {(t.size, t.column): t for t in large[1]}
        equal = [Pair(s, by_size[s.size, s.column]) for s in large[0] if (s.size, s.column) in by_size]
        if equal:
            return tuple(equal)
    grids = [[o for o in side if not o.column] for side in large]
    if all(grids):
        return tuple(Pair(s, t) for s, t in zip(reversed(grids[0]), reversed(grids[1]), strict=False))[::-1]
    flat = [[o for o in side if o.size == (1, 1)] for side in (ours, theirs)]
    if places == 1 and all(flat):
        return (Pair(flat[0][-1], flat[1][-1]),)
    raise Refused(
        f"{technique} finds no layers of student and teacher that match; the student has {_listed(ours)}, the teacher "
        f"{_listed(theirs)}; name pairs in layers, or use a teacher of the student's kind"
    )


def _listed(ends: Sequence[Output]) -> str:
    return ", ".join(map(str, ends)) if ends else "none before its head"


def named(
    technique: str, pairs: Iterable[tuple[str, str]], student: Sequence[Output], teacher: Sequence[Output]
) -> tuple[Pair, ...]:
    """The pairs of these paths. Errors: UnknownName with the nearest, Refused where both cannot lie on one grid."""
    found = []
    for ours, theirs in pairs:
        pair = Pair(_of("student", technique, ours, student), _of("teacher", technique, theirs, teacher))
        one, other = pair
        if one.column != other.column and (1, 1) not in (one.size, other.size):
            raise Refused(
                f"{technique} cannot compare {one} with {other}: the tokens of one fill no square, so that nothing "
                "says where they lie on the other; name a pair of maps, or of tokens"
            )
        found.append(pair)
    return tuple(found)


def _of(side: str, technique: str, path: str, known: Sequence[Output]) -> Output:
    for output in known:
        if output.path == path:
            return output
    raise UnknownName(f"layer of the {side} in {technique}.layers", path, [o.path for o in known])


def account(pairs: Iterable[Pair], details: dict[str, Any], notes: list[str]) -> None:
    """Write down which layers were compared, and a note for those that were pooled."""
    details["pairs"] = [
        {"student": p.student.path, "teacher": p.teacher.path, "shapes": [list(p.student.shape), list(p.teacher.shape)]}
        for p in pairs
    ]
    for p in pairs:
        if p.pooled:
            high, wide = p.size
            notes.append(f"{p.student} and the teacher's {p.teacher} differ in size and are pooled to {high}x{wide}")
