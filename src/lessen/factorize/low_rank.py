"""One layer becomes two thinner ones by truncated SVD (Denton et al. 2014, arXiv:1404.0736)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from lessen.core.errors import Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique


class LowRank(Technique):
    """Factors every convolution and linear layer where that saves weights and multiplications; the rest stays.

    `keep` is one number and `by` says of what: by="energy" keeps the fewest singular values that hold this share of
    their squared sum, by="rank" this share of their number.
    """

    paper: ClassVar[str] = "Denton et al. 2014, arXiv:1404.0736"
    neutral: ClassVar[dict[str, Any] | None] = {"keep": 1.0}
    shown: ClassVar[tuple[str, ...]] = ("keep",)

    keep: Annotated[float, Range("share kept, of what `by` names; 1 changes nothing", 0.01, 1.0)] = 0.9
    by: Annotated[Literal["energy", "rank"], Doc("keep a share of the squared singular values, or of their number")] = (
        "energy"
    )

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import layers, lowrank
        from lessen.ops.graph import failing_layer

        layers.own(model)
        run.details["layers"] = {}
        if self.keep == 1:
            return model
        targets, grouped = lowrank.targets(model)
        masked = [t.path for t in targets if t.masked()]
        if masked:
            raise Refused(
                "LowRank cannot follow MagnitudePrune because the factors of a sparse matrix are dense "
                f"('{masked[0]}' has a mask); do LowRank first"
            )
        changed: dict[Any, Any] = {}
        for i, target in enumerate(targets):
            u, s, v = lowrank.svd(target.matrix())
            r = lowrank.rank(s, self.keep, self.by)
            run.progress(i / len(targets), f"factoring {target.path}")
            if lowrank.saves(target, r):
                changed[target.module] = lowrank.factored(target, lowrank.truncated(u, s, v, r))
        lowrank.replace(model, changed)
        x = task.inputs(task.split("calibration").x).to(next(model.parameters()).device)
        failure = failing_layer(model, x[:1])
        if failure:
            raise Refused(f"LowRank cannot factor this model because it does not run with the factors: {failure}")
        between = [t for t in targets if t.module in changed and _quantizes_activations(model, t)]
        _calibrate(model, [f"{t.path}.0" for t in between], x)
        _report(targets, grouped, changed, run)
        return model


def _quantizes_activations(model: Any, target: Any) -> bool:
    """Whether the tensor between the factors needs a quantizer: integer weights in a net with integer activations."""
    from lessen.ops import layers

    return target.first.wq is not None and any(isinstance(m, layers.ActivationQuantizer) for m in model.modules())


def _calibrate(model: Any, paths: list[str], x: Any) -> None:
    """Quantizers on the tensors between factors, ranges from the calibration samples x."""
    from lessen.ops import calibration, layers

    if not paths:
        return
    bits = next(m.bits for m in model.modules() if isinstance(m, layers.ActivationQuantizer))
    found, _ = calibration.spans(model, x, outputs=paths)
    for path, span in found.items():
        model.get_submodule(path).oq = layers.ActivationQuantizer.covering(*span, bits=bits)


def _report(targets: list[Any], grouped: list[str], changed: dict[Any, Any], run: Run) -> None:
    """Ranks and errors of what was factored, with the arithmetic of the new layers; names of what was not."""
    from lessen.ops import lowrank

    for target in targets:
        if target.module not in changed:
            continue
        old, new = target.matrix(), lowrank.Target(target.path, changed[target.module], *changed[target.module])
        run.details["layers"][target.path] = {
            "rank": len(new.first.weight),
            "full_rank": min(old.shape),
            "error": lowrank.relative_error(old, new.matrix()),
        }
    dense = [t.path for t in targets if t.module not in changed]
    if dense:
        run.notes.append(f"left whole, factors would not be smaller: {', '.join(dense)}")
    if grouped:
        run.notes.append(f"left whole, grouped convolutions: {', '.join(grouped)}")
