"""Whole channels leave, with everything that is coupled to them (Fang et al. 2023, DepGraph, arXiv:2301.12900)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from lessen.core.errors import UnknownName
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique


class ChannelPrune(Technique):
    """Structured pruning: narrower layers, a smaller dense model. The layer that gives the logits keeps its outputs."""

    paper: ClassVar[str] = "Fang et al. 2023, arXiv:2301.12900"
    neutral: ClassVar[dict[str, Any] | None] = {"ratio": 0.0}
    shown: ClassVar[tuple[str, ...]] = ("ratio",)

    ratio: Annotated[float, Range("share of channels REMOVED, of every layer or of all together", 0.0, 0.95)] = 0.5
    scope: Annotated[
        Literal["layer", "global"], Doc("rank the channels of every layer by itself, or of all layers together")
    ] = "layer"
    criterion: Annotated[
        Literal["l1", "l2", "random"], Doc("a channel's importance: a norm over all coupled weights, or chance")
    ] = "l2"
    round_to: Annotated[
        int, Range("widths are multiples of it; runtimes compute in blocks of 8 or 16 channels", 1, 256)
    ] = 1
    floor: Annotated[float, Range("share of its channels that every layer keeps under scope='global'", 0.0, 1.0)] = 0.1
    whole: Annotated[tuple[str, ...], Doc("paths of layers, or of blocks, that keep all their output channels")] = ()

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import channels, cost, layers

        before = dict(channels.widths(layers.own(model)))
        known = {name for name, _ in model.named_modules()}
        for name in self.whole:
            if name not in known:
                raise UnknownName("layer in ChannelPrune.whole", name, before)
        sample = task.inputs(task.split("calibration").x[:2]).to(next(model.parameters()).device)
        macs = cost.macs(model, sample[:1])
        if self.ratio:
            plan = channels.Plan(self.ratio, self.scope, self.criterion, self.round_to, self.floor, self.whole)
            model, notes = channels.prune(model, sample, plan)
            run.notes.extend(notes)
        after = dict(channels.widths(model))
        if self.ratio and after == before:
            run.notes.append("no channel was cut: every layer is too narrow or stays whole")
        kept = sum(after.values()) / max(1, sum(before.values()))
        run.details["channels"] = {path: [before[path], after[path]] for path in before}
        run.details["channels_kept"], run.details["channels_removed"] = kept, 1 - kept
        run.details["macs"] = [macs, cost.macs(model, sample[:1])]
        return model
