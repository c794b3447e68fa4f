"""One layer becomes two thinner ones by truncated SVD (Denton et al. 2014, arXiv:1404.0736)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from lessen.core.errors import BadField, Refused, UnknownName
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique


class LowRank(Technique):
    """Factors every convolution and linear layer where that saves weights and multiplications; the rest stays.

    `keep` is one number and `by` says of what: by="energy" keeps the fewest singular values that hold this share of
    their squared sum, by="rank" this share of their number, by="parameters" as many as fit into this share of the
    layer's weights. `error` or `rank`, when given, stand in place of `keep`. Every layer's error is recorded.
    """

    paper: ClassVar[str] = "Denton et al. 2014, arXiv:1404.0736"
    neutral: ClassVar[dict[str, Any] | None] = {"keep": 1.0}
    shown: ClassVar[tuple[str, ...]] = ("keep",)

    keep: Annotated[float, Range("share kept, of what `by` names; 1 changes nothing", 0.01, 1.0)] = 0.9
    by: Annotated[
        Literal["energy", "rank", "parameters"],
        Doc("keep a share of the squared singular values, of their number, or of the layer's weights"),
    ] = "energy"
    error: Annotated[
        float, Range("in place of keep: largest relative Frobenius error of a layer; 0 is off", 0.0, 1.0)
    ] = 0.0
    rank: Annotated[int, Range("in place of keep: singular values kept of every layer; 0 is off", 0, 65_536)] = 0
    layers: Annotated[
        tuple[tuple[str, int], ...], Doc("(path, rank) of layers, in place of all else; 0 leaves it")
    ] = ()

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import layers, lowrank
        from lessen.ops.graph import failing_layer

        layers.own(model)
        run.details["layers"] = {}
        targets, fixed = lowrank.targets(model)
        self._check(targets, fixed)
        if self.keep == 1 and not (self.error or self.rank or self.layers):
            return model
        masked = [t.path for t in targets if t.masked()]
        if masked:
            raise Refused(
                "LowRank cannot follow MagnitudePrune because the factors of a sparse matrix are dense "
                f"('{masked[0]}' has a mask); do LowRank first"
            )
        changed: dict[Any, Any] = {}
        for i, target in enumerate(targets):
            u, s, v = lowrank.svd(target.matrix())
            r = self._rank(target, s)
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
        _report(targets, fixed, changed, run)
        return model

    def _check(self, targets: list[Any], fixed: dict[str, list[str]]) -> None:
        """One amount only, layers to factor, paths that exist."""
        if self.error and self.rank:
            raise BadField(f"LowRank.error = {self.error} and LowRank.rank = {self.rank} both say how much; give one")
        if not targets and not fixed:
            raise Refused("LowRank finds no convolution or linear layer in this model; factor one that has some")
        paths = [t.path for t in targets]
        reasons = {path: reason for reason, left in fixed.items() for path in left}
        for path, rank in self.layers:
            if path in reasons:
                raise BadField(f"LowRank.layers names '{path}', one of the {reasons[path]}; leave it out")
            if path not in paths:
                raise UnknownName("layer in LowRank.layers", path, paths)
            if rank < 0:
                raise BadField(f"LowRank.layers gives '{path}' {rank}, which is below 0")

    def _rank(self, target: Any, s: Any) -> int:
        """Singular values to keep; all of them where nothing is asked."""
        from lessen.ops import lowrank

        own, full = dict(self.layers).get(target.path), len(s)
        if own is not None or self.rank:
            return min(own if own is not None else self.rank, full) or full
        if self.error:
            return lowrank.rank_within(s, self.error)
        return lowrank.affordable(target, self.keep) if self.by == "parameters" else lowrank.rank(s, self.keep, self.by)


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


def _report(targets: list[Any], fixed: dict[str, list[str]], changed: dict[Any, Any], run: Run) -> None:
    """Ranks, errors and weights of what was factored, with the arithmetic of the new layers; names of what was not."""
    from lessen.ops import lowrank

    for target in targets:
        if target.module not in changed:
            continue
        old, new = target.matrix(), lowrank.Target(target.path, changed[target.module], *changed[target.module])
        run.details["layers"][target.path] = {
            "rank": len(new.first.weight),
            "full_rank": min(old.shape),
            "error": lowrank.relative_error(old, new.matrix()),
            "weights": [target.weights(), new.weights()],
        }
    dense = [t.path for t in targets if t.module not in changed]
    if dense:
        run.notes.append(f"left whole, factors would not be smaller: {', '.join(dense)}")
    run.notes += [f"left whole, {reason}: {', '.join(left)}" for reason, left in fixed.items()]
