"""Whole channels leave, with everything that is coupled to them (Fang et al. 2023, DepGraph, arXiv:2301.12900)."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from lessen.core.errors import BadField, UnknownName
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique


class ChannelPrune(Technique):
    """Structured pruning: narrower layers, a smaller dense model. The layer that gives the logits keeps its outputs.

    `ratio` is one number and `of` says of what: channels, multiply-accumulates or bytes that go, or bytes that stay.
    A goal in multiply-accumulates or bytes is searched by real cuts and reached within 2 % of the cost at the start;
    one that no cut can reach is refused, with the furthest. Attentions lose whole heads.
    """

    paper: ClassVar[str] = "Fang et al. 2023, arXiv:2301.12900"
    neutral: ClassVar[dict[str, Any] | None] = {"ratio": 0.0}
    shown: ClassVar[tuple[str, ...]] = ("ratio",)

    ratio: Annotated[float, Range("share REMOVED of what `of` names, or kept where it says so", 0.0, 0.99)] = 0.5
    of: Annotated[
        Literal["channels removed", "macs removed", "bytes removed", "bytes kept"],
        Doc("what ratio is a share of; channels are of every layer, or of all under scope='global'"),
    ] = "channels removed"
    scope: Annotated[
        Literal["layer", "global"], Doc("rank the channels of every layer by itself, or of all layers together")
    ] = "layer"
    layers: Annotated[
        tuple[tuple[str, float], ...], Doc("(path, share of channels REMOVED) of layers or blocks, in place of ratio")
    ] = ()
    criterion: Annotated[
        Literal["l1", "l2", "gradient", "taylor", "activation", "bn_scale", "random"],
        Doc("a channel's importance, over all weights coupled to it; random is the control"),
    ] = "l2"
    round_to: Annotated[
        int, Range("widths are multiples of it; runtimes compute in blocks of 8 or 16 channels", 1, 256)
    ] = 1
    floor: Annotated[float, Range("share of its channels that every layer keeps under scope='global'", 0.0, 1.0)] = 0.1
    whole: Annotated[tuple[str, ...], Doc("paths of layers, or of blocks, that keep all their output channels")] = ()
    steps: Annotated[int, Range("cuts on the way, with training between them; 1 is one shot", 1, 100)] = 1
    epochs: Annotated[int, Range("passes over the training data between two cuts", 0, 10_000)] = 1
    lr: Annotated[float, Range("learning rate between two cuts, at its peak", 1e-6, 10.0, log=True)] = 0.01
    batch: Annotated[int, Range("samples a training step", 2, 65_536, log=True)] = 128

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import channel_scores, channels, layers, train

        self._check(layers.own(model))
        calibration, device = task.split("calibration"), next(model.parameters()).device
        sample = task.inputs(calibration.x[:2]).to(device)
        looks = self.criterion in channel_scores.NEED_DATA
        data = channels.Data(task.inputs(calibration.x), calibration.y, task.loss) if looks else None
        start, shapes = channels.Start.of(model, sample), channels.shapes(model)
        for step in range(1, self.steps + 1) if self.ratio or self.layers or self.of == "bytes kept" else ():
            run.progress((step - 1) / self.steps, f"cut {step}/{self.steps}")
            model, notes = channels.prune(model, sample, self._plan(step), data, start)
            run.notes.extend(note for note in notes if note not in run.notes)
            if step < self.steps:
                model = self._train(model, task, run, train.Plan(self.epochs, self.batch, lr=self.lr), step)
        self._report(start, channels.Start.of(model, sample), shapes, channels.shapes(model), run)
        return model

    def _check(self, model: Any) -> None:
        """Paths that exist, ratios in their range."""
        known = {name for name, _ in model.named_modules()}
        for field, names in (("whole", self.whole), ("layers", tuple(name for name, _ in self.layers))):
            for name in names:
                if name not in known:
                    raise UnknownName(f"layer in ChannelPrune.{field}", name, sorted(known - {""}))
        for name, ratio in self.layers:
            if not 0 <= ratio < 1:
                raise BadField(f"ChannelPrune.layers gives '{name}' {ratio}, which is out of its range 0 to below 1")

    def _plan(self, step: int) -> Any:
        from lessen.ops.channels import Plan

        return Plan(
            self.ratio, self.scope, self.criterion, self.round_to, self.floor, self.whole, self.of, self.layers,
            share=step / self.steps,
        )  # fmt: skip

    def _train(self, model: Any, task: Task, run: Run, plan: Any, step: int) -> Any:
        """Between two cuts: one run of the loop, its epochs counted on from the earlier ones."""
        from lessen.ops import train

        part = replace(run, progress=lambda done, text: run.progress((step - 1 + done) / self.steps, text), history=[])
        model, before = train.fit(model, task, plan, part), len(run.history)
        run.history.extend(e.model_copy(update={"epoch": before + e.epoch}) for e in part.history)
        return model

    def _report(self, before: Any, after: Any, was: dict, now: dict, run: Run) -> None:
        """Widths, filters removed and weight shapes of every layer, before and after."""
        if self.ratio and after.widths == before.widths:
            run.notes.append("no channel was cut: every layer is too narrow or stays whole")
        kept = sum(after.widths.values()) / max(1, sum(before.widths.values()))
        run.details["channels"] = {path: [n, after.widths[path]] for path, n in before.widths.items()}
        run.details["filters_removed"] = {path: n - after.widths[path] for path, n in before.widths.items()}
        run.details["architecture"] = {"before": was, "after": now}
        run.details["channels_kept"], run.details["channels_removed"] = kept, 1 - kept
        run.details["macs"], run.details["bytes"] = [before.macs, after.macs], [before.bytes, after.bytes]
