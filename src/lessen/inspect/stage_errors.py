"""The verb: a model and its quantized forms - the error that each layer makes, and what of it reaches the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lessen.analyze.ranks import Correlation, spearman
from lessen.core.errors import BadField, Refused
from lessen.core.run import silent
from lessen.inspect.side_by_side import IMAGES, MOST, Shown, distinct, same_question
from lessen.inspect.subjects import positions, private, samples
from lessen.ops.distortion import Distortion
from lessen.report.offline import finite

if TYPE_CHECKING:
    from torch import nn

    from lessen.core.task import Task
    from lessen.ops.propagation import Fit, Found
    from lessen.ops.stages import Stage

TRAINED = 1e-6  # a weight that moved further than this part of the largest was trained, or equalized


@dataclass(frozen=True)
class StageRow:
    """One stage: layers that an integer kernel computes at once. Errors are of what its last layer gives.

    alone: its input exact; weights, activations: with these alone quantized. accumulated: with all quantized. output:
    of the model's answer when only this stage is quantized; share: of all stages' such noise. file, model_file: of the
    shipped file against the original, and against the simulated model; None where the file holds no such value.
    """

    path: str
    layers: tuple[str, ...]
    alone: Distortion
    weights: Distortion
    activations: Distortion
    accumulated: Distortion
    output: Distortion
    share: float
    fits: dict[str, Fit]
    file: Distortion | None = None
    model_file: Distortion | None = None


@dataclass(frozen=True)
class Propagated:
    """One quantized form. summed: SQNR if the stages' noises at the answer were independent, in dB.

    mended: SQNR of the answer with the bottleneck alone in float. agreement: share with the same class. tails: of
    kurtosis and own SQNR of the stages' outputs.
    """

    name: str
    about: str
    rows: tuple[StageRow, ...]
    output: Distortion
    agreement: float
    summed: float
    mended: float
    depth: Correlation
    tails: Correlation
    notes: tuple[str, ...]

    @property
    def bottleneck(self) -> StageRow:
        return max(self.rows, key=lambda row: row.share)

    def sentences(self) -> list[str]:
        from lessen.inspect import causes

        return [*causes.sentences(self), *self.notes]


@dataclass(frozen=True)
class Errors:
    """What was found, for every quantized form."""

    images: int
    found: tuple[Propagated, ...]

    def sentences(self) -> list[str]:
        return [sentence for one in self.found for sentence in one.sentences()]

    def json(self) -> dict[str, Any]:
        """All numbers, for programs."""
        from lessen.inspect import causes

        models = []
        for one in self.found:
            shown = asdict(one) | {name: getattr(one, name)._asdict() for name in ("output", "depth", "tails")}
            shown["rows"] = [_plain(row) for row in one.rows]
            shown |= {"bottleneck": one.bottleneck.path, "reason": causes.reason(one, one.bottleneck)}
            models.append(shown | {"sentences": one.sentences()})
        return finite({"images": self.images, "models": models})


def _plain(row: StageRow) -> dict[str, Any]:
    named = {k: v._asdict() if isinstance(v, Distortion) else v for k, v in vars(row).items()}
    return named | {"fits": {where: fit._asdict() for where, fit in row.fits.items()}}


def errors(
    shown: Sequence[Shown], task: Task, *, images: int | None = None, seed: int = 0,
    progress: Callable[[float, str], None] = silent,
) -> Errors:  # fmt: skip
    """Compare quantized models with the first, the one they were made of; all stay as they are.

    images: of validation, 200 when left out, drawn by `seed`. Errors: BadField, BadData, Refused for a model that holds
    no quantizer, or other layers than the original.
    """
    images = IMAGES if images is None else images
    if not 1 <= len(shown) - 1 <= MOST or images < 1:
        raise BadField(f"{len(shown) - 1} models and {images} images; give 1 to {MOST} models and at least 1 image")
    x, _ = samples(task, positions(task, images, seed, "errors"))
    names = distinct([s.name for s in shown])
    models = [private(s.model, task).cpu() for s in shown]
    same_question(models, names, task, x)
    parts = [_stages(models[0], model, name) for model, name in zip(models[1:], names[1:], strict=True)]
    found = []
    for i, (stages, name, one) in enumerate(zip(parts, names[1:], shown[1:], strict=True)):
        found.append(
            _propagated(
                models[0], models[i + 1], stages, task, x, Shown(name, one.model, one.about, file=one.file),
                lambda share, i=i, name=name: progress((i + share) / len(parts), f"errors of {name}"),
            )
        )  # fmt: skip
    return Errors(len(x), tuple(found))


def _stages(exact: nn.Module, quantized: nn.Module, name: str) -> list[Stage]:
    """The stages that hold a quantizer. Errors: Refused."""
    from lessen.ops import propagation
    from lessen.ops.stages import stages

    theirs = dict(quantized.named_modules())
    known = stages(exact)
    for path in (path for stage in known for path in stage):
        mine, other = exact.get_submodule(path), theirs.get(path)
        same = type(mine) is type(other) and _shape(mine) == _shape(other)
        if not same:
            what = "no such layer" if other is None else f"another {type(other).__name__} there"
            raise Refused(
                f"{name} is not a quantized form of the original: for '{path}' it has {what}; give as the first model "
                f"the one that {name} was quantized from"
            )
    found = propagation.quantized_stages(quantized, known)
    if not found:
        raise Refused(f"{name} holds no quantizer, so it makes no error; give its quantized form, as 'Int8()' makes it")
    return found


def _shape(module: Any) -> tuple[int, ...]:
    weight = getattr(module, "weight", None)
    return () if weight is None else tuple(weight.shape)


def _propagated(
    exact: nn.Module, quantized: nn.Module, stages: list[Stage], task: Task, x: Any, one: Shown,
    progress: Callable[[float], None],
) -> Propagated:  # fmt: skip
    from lessen.inspect.shipped import Shipped
    from lessen.ops import propagation

    shipped = Shipped.of(one, task)
    inputs = task.inputs(x)
    rows, whole, (expected, got) = propagation.propagate(
        exact, quantized, stages, inputs, see=shipped.see, progress=progress
    )
    noise = sum(row.output.noise for row in rows)
    worst = max(rows, key=lambda row: row.output.noise)
    mended = propagation.output_error(exact, quantized, exact, worst.stage, inputs)
    made = tuple(_row(row, noise, shipped) for row in rows)
    told = [(row.fits["output"].kurtosis, row.activations.sqnr_db) for row in made if "output" in row.fits]
    levels = [row.accumulated.sqnr_db for row in made]
    told = list(zip(*told, strict=True)) or [(), ()]
    return Propagated(
        one.name, one.about, made, whole.distortion(), float((expected.argmax(1) == got.argmax(1)).double().mean()),
        10 * math.log10(whole.signal / noise) if noise and whole.signal else math.inf, mended.distortion().sqnr_db,
        _related(range(len(levels)), levels), _related(*told),
        (*_notes(exact, quantized, one.name), *shipped.notes(one.name)),
    )  # fmt: skip


def _related(a: Sequence[float], b: Sequence[float]) -> Correlation:
    pairs = [(p, q) for p, q in zip(a, b, strict=True) if math.isfinite(p) and math.isfinite(q)]
    return spearman(*zip(*pairs, strict=True)) if len(pairs) > 2 else Correlation(math.nan, 1.0, len(pairs))


def _row(row: Found, noise: float, shipped: Any) -> StageRow:
    path = row.stage[-1]
    file, model_file = (
        found[path].distortion() if path in found else None for found in (shipped.exact, shipped.simulated)
    )
    return StageRow(
        path, row.stage, row.alone.distortion(), row.weights.distortion(), row.activations.distortion(),
        row.accumulated.distortion(), row.output.distortion(), row.output.noise / noise if noise else 0.0, row.fits,
        file, model_file,
    )  # fmt: skip


def _notes(exact: nn.Module, quantized: nn.Module, name: str) -> list[str]:
    """Says so where the float weights under the quantizers are not the original's."""
    from lessen.ops import layers

    theirs, moved = layers.weighted(quantized), []
    for path, layer in layers.weighted(exact).items():
        change = float((layer.weight - theirs[path].weight).abs().max())
        if change > TRAINED * float(layer.weight.abs().max()):
            moved.append(path)
    if not moved:
        return []
    return [
        f"{name}: the weights of {len(moved)} layers ({moved[0]} first) are not the original's: it was trained, pruned "
        "or equalized as well, and its errors hold that, not rounding alone."
    ]
