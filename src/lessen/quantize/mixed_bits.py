"""Bits chosen layer by layer: few where the loss does not mind, more where it does (HAWQ-v2, arXiv:1911.03852).

How much it minds is measured on calibration samples; which bits follow is solved exactly for a budget.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from lessen.core.errors import BadField, UnknownName
from lessen.core.quantizing import (
    Activations,
    CorrectBias,
    Coverage,
    Equalize,
    Ranges,
    Rounding,
    Samples,
    WeightCoverage,
    WeightRanges,
)
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique


class MixedBits(Technique):
    """Weights of 16, 8, 4 or 2 bits, layer by layer, with the smallest estimated loss within a budget.

    Bytes are of the packed file, scales and graph included, and a share is of the file with float32 weights and
    activations. With `by="ends"` the first and last layer have 8 bits and the others `bits`; with `by="given"` only
    those in `layers` change.
    """

    paper: ClassVar[str] = "Dong et al. 2020, HAWQ-v2, arXiv:1911.03852"
    neutral: ClassVar[dict[str, Any] | None] = {"by": "given", "activations": "float", "correct_bias": False}

    budget: Annotated[
        float, Range("average bits of a weight, or share of the file's bytes; `of` says which", 0, 16)
    ] = 4.0
    of: Annotated[Literal["average bits", "bytes kept"], Doc("what budget is of")] = "average bits"
    by: Annotated[
        Literal["fisher", "hessian", "variance", "ends", "given"],
        Doc("loss from squared gradients, Hessian trace or activation variance; or by rule; or by hand"),
    ] = "fisher"
    choices: Annotated[
        tuple[Literal[16, 8, 4, 2], ...],
        Doc("bits to choose from; 16 only where all activations are float"),
    ] = (16, 8, 4, 2)
    bits: Annotated[Literal[8, 4, 2], Doc("bits between the first and the last layer, by='ends'")] = 4
    layers: Annotated[
        tuple[tuple[str, Literal[16, 8, 4, 3, 2]], ...], Doc("(path, bits) of single layers, whatever the others get")
    ] = ()
    looks: Annotated[int, Range("calibration samples that sensitivity is measured on", 1, 100_000, log=True)] = 128
    draws: Annotated[int, Range("random vectors of the Hessian trace", 2, 10_000, log=True)] = 16
    activations: Activations = 8
    samples: Samples = 0
    coverage: Coverage = 1.0
    ranges: Ranges = "mse"
    weight_coverage: WeightCoverage = 1.0
    weight_ranges: WeightRanges = "mse"
    rounding: Rounding = "nearest"
    correct_bias: CorrectBias = True
    equalize: Equalize = False

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import equalization, file_bytes, insertion, layers

        if self.of == "bytes kept" and self.budget > 1:
            raise BadField(f"MixedBits.budget = {self.budget:g} of bytes kept must be at most 1; it is a share")
        layers.own(model)
        insertion.check(model, self._plan({}))
        known = list(layers.weighted(model))
        for path, _ in self.layers:
            if path not in known:
                raise UnknownName("layer in MixedBits.layers", path, known)
        if self.equalize:  # before the choice, which depends on the weights
            run.details["equalized"] = equalization.equalize(model)
        float32 = file_bytes.of_float32(model)
        bits = self._choose(model, task, run, float32, self._offered(file_bytes.in_integers(model)))
        insertion.quantize(model, task, run, self._plan(bits))
        self._report(model, run, float32)
        return model

    def _plan(self, bits: dict[str, int]) -> Any:
        from lessen.ops.insertion import Plan

        return Plan.of(self, bits=bits, equalize=False)  # done before the choice

    def _offered(self, integer: bool) -> tuple[int, ...]:
        """Bits to choose from: runtimes would round halves to 8 bits between quantized activations."""
        integer = integer or self.activations != "float"
        halves = [path for path, bits in self.layers if bits == 16]
        if integer and halves:
            raise BadField(f"MixedBits.layers gives '{halves[0]}' 16 bits, which needs activations='float' throughout")
        offered = tuple(bits for bits in self.choices if bits < 16 or not integer)
        if not offered:
            raise BadField("MixedBits.choices has nothing to choose from; name bits, for example (8, 4, 2)")
        return offered

    def _choose(self, model: Any, task: Task, run: Run, float32: int, offered: tuple[int, ...]) -> dict[str, int]:
        """Path -> bits; a layer that is left out stays as it is."""
        from lessen.ops import bit_choice

        hand: dict[str, int] = dict(self.layers)  # type: ignore[arg-type]
        if self.by == "given":
            return hand
        if self.by == "ends":
            return {**bit_choice.first_and_last(model, self.bits), **hand}
        return self._solve(model, task, run, float32, hand, offered)

    def _solve(
        self, model: Any, task: Task, run: Run, float32: int, hand: dict[str, int], offered: tuple[int, ...]
    ) -> dict[str, int]:
        """The choice with the smallest summed loss, and what it was chosen from. Errors: BadField."""
        import torch

        from lessen.ops import bit_choice, curvature, file_bytes, layers

        assert self.by in ("fisher", "hessian", "variance")
        weighted = layers.weighted(model)
        run.progress(0.0, f"sensitivity of {len(weighted)} layers by {self.by}")
        found = curvature.measure(model, task, self.by, samples=self.looks, draws=self.draws, seed=torch.initial_seed())
        rows = bit_choice.table(
            model, found, hand, offered, integer=self.activations != "float", rule=self.weight_ranges,
            share=self.weight_coverage,
        )  # fmt: skip
        fixed = file_bytes.fixed(model, None if self.activations == "float" else self.activations)
        counts = [layer.weight.numel() for layer in weighted.values()]
        if self.of == "bytes kept":
            choice = bit_choice.within_bytes(rows, fixed, self.budget * float32)
            least = bit_choice.smallest(rows, fixed) / float32
        else:
            choice = bit_choice.within_bits(rows, counts, self.budget)
            least = bit_choice.average(rows, [len(row) - 1 for row in rows], counts)
        if choice is None:
            raise BadField(
                f"MixedBits.budget = {self.budget:g} ({self.of}) is below the smallest possible, {least:.4g}; "
                f"ask for more{', or for fewer bits in layers' if hand else ''}, or cut channels first"
            )
        picked = [row[i] for row, i in zip(rows, choice, strict=True)]
        run.details["sensitivity"] = {
            path: {"mean": found[path].mean, "error": found[path].error, "loss": {str(o.bits): o.loss for o in row}}
            for path, row in zip(weighted, rows, strict=True)
        }
        run.details["objective"] = sum(o.loss for o in picked)
        return {path: o.bits for path, o in zip(weighted, picked, strict=True)}

    def _report(self, model: Any, run: Run, float32: int) -> None:
        from lessen.ops import file_bytes, layers

        weighted = layers.weighted(model).values()
        total = sum(layer.weight.numel() for layer in weighted)
        stored = sum(layer.weight.numel() * (32 if layer.wq is None else layer.wq.stored_bits) for layer in weighted)
        size = file_bytes.of_model(model)
        if "objective" in run.details:
            run.details["budget"] = {"asked": self.budget, "of": self.of}
        run.details["reached"] = {
            "bytes": size, "bytes kept": size / float32, "average bits": stored / max(1, total),
            "float32 bytes": float32,
        }  # fmt: skip
