"""The one training loop: the same code on a CPU, one GPU, or many under torchrun (Lightning Fabric).

The data lives as one tensor on the device and is shuffled and augmented there in batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lessen.core.errors import BadField, Diverged
from lessen.core.record import Epoch
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.ops import augment, chance, devices, layers, modes, optimizers, schedules, winograd
from lessen.ops.averages import Average, clones
from lessen.ops.checkpoints import Checkpoint
from lessen.ops.graph import failing_layer
from lessen.ops.training_plan import Batch, Plan, batch_count, mix_seeds

Loss = Callable[[nn.Module, Batch], Tensor]
Hook = Callable[[nn.Module, int], None]


def fit(
    model: nn.Module, task: Task, plan: Plan, run: Run, *, loss: Loss | None = None, hooks: Iterable[Hook] = ()
) -> nn.Module:
    """Train in place; returns the model with its last weights, or its best when `patience` is set. What its user froze
    (`modes.training`) stays in evaluation mode, so batch norms there keep their statistics.

    `loss(model, batch)` gives the scalar to minimize; each of `hooks` is called as `hook(model, step)` after every
    optimizer step, from 1. Neither may keep state: a run that resumes from `run.checkpoint` would not find it.
    It resumes where plan, data, seed, first weights, the loss's name, `run.done` and `run.step` are as they were.
    Errors: Diverged when the loss is not finite; before any step Refused for 16-bit weights, and BadField for `sizes`
    that the model cannot take.

    >>> fit(task.build("resnet8"), task, Plan(epochs=10), Run())  # doctest: +SKIP
    """
    if plan.epochs == 0 or (plan.span and plan.span[0] == plan.span[1]):
        return model
    layers.refuse_16_bits(model)
    check_sizes(model, task, plan)
    home = next(model.parameters()).device
    with modes.training(model) as wake:
        loop = _Loop(model, task, plan, run, loss, tuple(hooks))
        loop.resume()
        while not loop.over:
            wake()
            loop.run_epoch()
        loop.finish()
    return model.to(home)


def resized(x: Tensor, side: int) -> Tensor:
    """Images (n, c, h, w) -> (n, c, side, side), bilinear without aliasing (Tan & Le 2021, arXiv:2104.00298)."""
    if tuple(x.shape[2:]) == (side, side):
        return x
    return nn.functional.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)


def check_sizes(model: nn.Module, task: Task, plan: Plan, who: str = "the model") -> None:
    """Errors: BadField, naming the first size at which a sample does not go through the model, and where."""
    for side in dict.fromkeys(plan.sizes):
        x = task.inputs(task.split("train").x[:1]).to(next(model.parameters()).device)
        if failure := failing_layer(model, resized(x, side)):
            raise BadField(
                f"sizes = {plan.sizes} holds {side}, but {who} cannot take images of {side} px: {failure}; "
                "leave it out, or average over pixels before the first Linear layer"
            )


class _Loop:
    """One run of `fit`: what it needs at each step, and what a checkpoint must keep."""

    def __init__(self, model: nn.Module, task: Task, plan: Plan, run: Run, loss: Loss | None, hooks: tuple) -> None:
        self.fabric = fabric = devices.connect(plan.precision)
        self.task, self.plan, self.run, self.hooks = task, plan, run, hooks
        self.loss = loss or (lambda model, batch: task.loss(model(batch.x), batch.y, plan.smoothing))
        self.seed = torch.initial_seed()
        origin = plan, self.seed, task.fingerprint, fabric.world_size, getattr(loss, "__qualname__", type(loss))
        origin = *origin, run.done, run.step  # what losses and hooks close over is in the technique's fields
        self.checkpoint = Checkpoint(run.checkpoint, model, *origin)
        train = task.split("train")
        self.x, self.y = train.x.to(fabric.device), train.y.to(fabric.device)
        self.batches = batch_count(len(self.y), plan.batch, fabric.world_size)
        self.steps = self.batches * plan.epochs
        warmup = round(plan.warmup * self.batches)
        self.share = schedules.schedule(plan.schedule, self.steps, warmup)
        self.model = model.to(fabric.device)
        self.channels_last = plan.channels_last or plan.precision != "32"  # kernels of 16-bit floats are made for it
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module = fabric.setup_module(self.model)
        quick = fabric.device.type == "cpu" and winograd.pays(model)
        self.quick = winograd.Quick() if quick else nullcontext()
        self.optimizer = optimizers.optimizer(model, plan.optimizer, plan.lr, plan.momentum, plan.weight_decay)
        self.stepper: Any = fabric.setup_optimizers(self.optimizer)
        self.average = Average(model, plan.ema) if plan.ema else None
        self.weighted = layers.weighted(model)
        self.noise = torch.Generator(fabric.device)
        self.every = (
            1 if fabric.device.type == "cpu" else 50
        )  # steps between two looks at the loss: each waits for a GPU
        self.epoch, self.end = plan.span or (0, plan.epochs)  # epochs behind the model, and where to stop
        self.step = self.first = self.epoch * self.batches
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] | None = None
        self.best_score, self.best_epoch = -math.inf, 0
        self.begun, self.spoke = time.monotonic(), 0.0

    @property
    def over(self) -> bool:
        """All epochs done, or none better for `patience` epochs."""
        tired = self.best is not None and self.epoch - self.best_epoch >= self.plan.patience
        return self.epoch == self.end or tired

    def run_epoch(self) -> None:
        """Train on every sample once, score, remember, save."""
        start = time.perf_counter()
        loss = self._train()
        self.epoch += 1
        score, lr = self._score(), self._lr(self.step - 1)
        seconds = time.perf_counter() - start
        self.history.append(Epoch(epoch=self.epoch, loss=loss, score=score, lr=lr, seconds=seconds))
        if self.fabric.is_global_zero and self.checkpoint.due():
            problem = self.checkpoint.save(self._state())
            if problem and problem not in self.run.notes:
                self.run.notes.append(problem)
        self._say(loss)

    def _train(self) -> float:
        """One pass over the train split; returns the mean loss."""
        epoch, rank, world = self.epoch, self.fabric.global_rank, self.fabric.world_size
        shuffle = torch.Generator().manual_seed(mix_seeds(self.seed, epoch))
        self.noise.manual_seed(mix_seeds(self.seed, epoch, rank + 1))
        order = torch.randperm(len(self.y), generator=shuffle).to(self.fabric.device)
        pending: list[Tensor] = []
        total = 0.0
        for number, index in enumerate(order.tensor_split(self.batches), 1):
            pending.append(self._step(index if world == 1 else index.tensor_split(world)[rank]))
            if len(pending) == self.every or number == self.batches:
                total += self._look(pending, number)
                pending = []
        return total / self.batches

    def _step(self, index: Tensor) -> Tensor:
        """One optimizer step on the samples at `index`; returns the loss without waiting for it."""
        optimizers.set_lr(self.optimizer, self._lr(self.step))
        raw, y = self.x[index], self.y[index]
        if self.plan.jitter:
            raw = augment.jitter(raw, self.plan.jitter, self.noise)
        if self.plan.augment:
            x = self.task.augment(raw, self.noise)
            if self.epoch < self.plan.epochs - self.plan.unblended:
                x, y = self.task.mix(x, y, self.noise)
        else:
            x = self.task.inputs(raw)
        if self.plan.sizes:
            x = resized(x, self.plan.sizes[self.step * len(self.plan.sizes) // self.steps])
        if self.channels_last and x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with self.fabric.autocast(), self.quick:
            loss = self.loss(self.module, Batch(x, y, index, self.step / self.batches))
        self.optimizer.zero_grad()  # not after the step: the heap would shrink, and be paged in again, at every step
        self.fabric.backward(loss)
        if self.plan.clip:
            self.fabric.clip_gradients(
                self.module, self.stepper, max_norm=self.plan.clip, error_if_nonfinite=False
            )  # a gradient that is not finite shows in the next loss, which names its step
        self.stepper.step()
        self.step += 1
        self._mask()
        for hook in self.hooks:
            hook(self.model, self.step)
        if self.average is not None:
            self.average.update()
        return loss.detach()

    def _lr(self, step: int) -> float:
        return self.plan.lr * self.share(step)

    @torch.no_grad()
    def _mask(self) -> None:
        """Momentum, decay and Muon's dense steps do not bring masked weights back."""
        for layer in self.weighted.values():
            if layer.mask is not None:
                layer.weight.mul_(layer.mask)

    def _look(self, pending: list[Tensor], number: int) -> float:
        """Sum of the pending losses. Errors: Diverged, naming the first step that was not finite."""
        losses: list[float] = self.fabric.all_reduce(torch.stack(pending).float()).tolist()  # type: ignore[union-attr]
        for i, loss in enumerate(losses, number - len(losses) + 1):
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss is {loss} at epoch {self.epoch + 1}, step {i} of {self.batches}; "
                    f"lower lr (now {self.plan.lr:g}), or set warmup or clip"
                )
        if time.monotonic() - self.spoke > 0.5 and number < self.batches:
            self._say(losses[-1])
        return sum(losses)

    def _score(self) -> float | None:
        """On validation, of the averaged weights where there are some; keeps the best weights."""
        with self.average.shown() if self.average else nullcontext():
            for buffer in self.model.buffers() if self.fabric.world_size > 1 else ():
                torch.distributed.broadcast(buffer, 0)  # each device has seen its own share of the batches
            score = self.fabric.broadcast(self.task.evaluate(self.model, "validation"))
            if self.plan.patience and score is not None and score > self.best_score:
                self.best, self.best_score, self.best_epoch = clones(self.model), score, self.epoch
        return score

    def _say(self, loss: float) -> None:
        """Progress: `epoch 3/10 loss 0.41 score 0.87 12 s left`."""
        self.spoke = time.monotonic()
        left = (self.spoke - self.begun) / max(self.step - self.first, 1) * (self.steps - self.step)
        epoch = math.ceil(self.step / self.batches)
        score = next((f" score {e.score:.2f}" for e in self.history[-1:] if e.score is not None), "")
        wait = f"{left:.0f} s" if left < 100 else f"{left / 60:.0f} min"
        self.run.progress(
            self.step / self.steps, f"epoch {epoch}/{self.plan.epochs} loss {loss:.2f}{score} {wait} left"
        )

    def finish(self) -> None:
        """Leave the weights to return in the model, and what happened in the run."""
        notes, done, patience = self.run.notes, self.epoch, self.plan.patience
        if devices.emulated(self.plan.precision):
            notes.append("trained in float32: this CPU would only emulate bfloat16, many times slower")
        if patience and self.best is None:
            notes.append("early stopping was off: the validation split is empty")
        elif done < self.end:
            notes.append(
                f"stopped after epoch {done} of {self.plan.epochs}: none better for {self.plan.patience} epochs"
            )
        if self.best is not None:
            self.model.load_state_dict(self.best)
            notes.append(f"kept epoch {self.best_epoch}, the best on validation ({self.best_score:.4f})")
        elif self.average:
            self.average.swap()
        self._mask()
        self.optimizer.zero_grad()
        if self.channels_last:
            self.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.run.history.extend(self.history)

    def _state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "step": self.step, "history": [e.model_dump() for e in self.history],
            "model": self.model.state_dict(), "masks": {k: m.mask for k, m in self.weighted.items()},
            "optimizer": self.optimizer.state_dict(), "scaler": self.fabric.strategy.precision.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "best": self.best, "best_score": self.best_score, "best_epoch": self.best_epoch,
            "chance": chance.state(self.fabric.device),
        }  # fmt: skip

    def resume(self) -> None:
        """Go on from this run's checkpoint, if it left one."""
        state = self.checkpoint.load()
        if state is None:
            return
        self.step = self.first = state["step"]
        self.history = [Epoch(**e) for e in state["history"]]
        self.run.earlier.append(sum(e.seconds for e in self.history))
        self.epoch += len(self.history)
        self.model.load_state_dict(state["model"])
        for path, mask in state["masks"].items():
            self.weighted[path].mask = None if mask is None else mask.to(self.fabric.device)
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.best, self.best_score, self.best_epoch = state["best"], state["best_score"], state["best_epoch"]
        chance.restore(state["chance"])
