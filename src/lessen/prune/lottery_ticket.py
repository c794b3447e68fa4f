"""A sparse net that trains as well as the dense one, from the same first weights (Frankle & Carbin 2019)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from lessen.core import training
from lessen.core.errors import BadField, Refused
from lessen.core.record import TOP1
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.analyze.statistics import Difference

OTHER = 0x0DD5  # tells the control's first weights from the ticket's


class LotteryTicket(Technique):
    """Iterative magnitude pruning with rewinding, against the dense net and the same masks on other first weights.

    Comes first in a recipe: of the model given it takes the architecture, and makes its first weights again from the
    run's seed. Each repeat trains rounds + 2 nets for `epochs`: the dense one, one a round (from `rewind_epoch` on),
    and the control. The ticket of the first repeat is the result; the verdict is from validation images.
    """

    paper: ClassVar[str] = "Frankle & Carbin 2019, arXiv:1803.03635; Frankle et al. 2020, arXiv:1912.05671"
    trains: ClassVar[bool] = True
    shown: ClassVar[tuple[str, ...]] = ("sparsity", "epochs")

    sparsity: Annotated[float, Range("share of weights that are zero in the ticket", 0.01, 0.999)] = 0.8
    rounds: Annotated[int, Range("times to train, prune and rewind; each prunes an equal share", 1, 100)] = 3
    rewind_epoch: Annotated[int, Range("epoch of the dense training to rewind to; 0 is initialization", 0, 10_000)] = 0
    repeats: Annotated[int, Range("whole experiments, each from other first weights", 1, 100)] = 1
    margin: Annotated[float, Range("share of the score that a ticket may lack and still match", 0.0, 0.5)] = 0.01
    scope: Annotated[
        Literal["global", "layer"], Doc("rank the weights of all layers together, or every layer by itself")
    ] = "global"
    floor: Annotated[float, Range("share of its weights that every layer keeps under scope='global'", 0.0, 1.0)] = 0.001
    epochs: Annotated[int, Range("passes over the training data of each net", 1, 10_000)] = 10
    lr: training.Rate = 0.1
    batch: training.BatchSize = 128
    optimizer: training.Optimizer = "sgd"
    schedule: training.Schedule = "cosine"
    warmup: training.Warmup = 0.0
    weight_decay: training.Decay = 5e-4
    smoothing: training.Smoothing = 0.0
    augment: training.Augment = True
    precision: training.Precision = "32"

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        import torch

        from lessen.models.pristine import compressed, text
        from lessen.ops import sparsity, ties

        if run.done or compressed(model):
            before = run.done[-1] if run.done else "a compression"
            raise Refused(
                f"LotteryTicket cannot follow {before} because rewinding to the first weights would throw away what "
                "it won; put LotteryTicket first"
            )
        builder = text(model)
        if builder is None:
            raise Refused(
                "LotteryTicket cannot make the model's first weights again because the model does not know its "
                "builder; build it by a name of the zoo or as package.module:function"
            )
        self._check()
        seed, device = torch.initial_seed(), next(model.parameters()).device
        trials = [_Trial(self, task, run, builder, device, seed, i) for i in range(self.repeats)]
        for trial in trials:
            trial.play()
        ticket = trials[0].ticket
        run.history.extend(trials[0].history)
        run.details.update(sparsity.account(ties.once(ticket)))
        run.notes += sparsity.left_dense(ticket)
        run.details["given_model_score"] = task.evaluate(model, "validation")
        run.details["curves"] = [curve for trial in trials for curve in trial.curves]
        self._judge(trials, task, run)
        return ticket if model.training else ticket.eval()

    def _check(self) -> None:
        """Errors: BadField for fields that contradict each other."""
        if self.rewind_epoch >= self.epochs:
            raise BadField(
                f"LotteryTicket.rewind_epoch = {self.rewind_epoch} leaves nothing to train of epochs = {self.epochs}; "
                f"at most {self.epochs - 1} is possible"
            )
        if self.scope == "global" and self.floor + self.sparsity > 1 + 1e-9:
            raise BadField(
                f"LotteryTicket.floor = {self.floor} keeps more than sparsity = {self.sparsity} leaves; "
                f"at most {1 - self.sparsity:g} is possible"
            )

    def _judge(self, trials: list[_Trial], task: Task, run: Run) -> None:
        """Say whether a winning ticket was found, and how sure that is."""
        import numpy as np

        from lessen.analyze.statistics import paired_difference

        trained = sum(len(curve["scores"]) for trial in trials for curve in trial.curves)
        run.details["epochs_trained"] = trained
        run.notes.append(f"{trained} epochs were trained, {trained / self.epochs:g} times those of the dense net")
        dense, ticket, control = (np.stack([t.right[arm] for t in trials]) for arm in ("dense", "ticket", "reset"))
        if not dense.shape[1]:
            run.details["winning_ticket"] = None
            run.notes.append("no verdict on the ticket: the validation split is empty")
            return
        to_dense, to_control = paired_difference(ticket, dense), paired_difference(ticket, control)
        run.details["scores"] = [
            {"arm": name, "scores": arm.mean(1).tolist()}
            for name, arm in (("dense", dense), ("ticket", ticket), ("re-initialized", control))
        ]
        run.details["ticket_minus_dense"] = [to_dense.value, to_dense.low, to_dense.high]
        run.details["ticket_minus_reinitialized"] = [to_control.value, to_control.low, to_control.high]
        won, words = verdict(to_dense, to_control, self.margin)
        run.details["winning_ticket"] = won
        if task.scored_by != TOP1:
            run.notes.append(f"the verdict goes by shares of right answers, not by the task's {task.scored_by}")
        run.notes += [words, f"ticket - dense: {to_dense}", f"ticket - re-initialized: {to_control}"]


def verdict(to_dense: Difference, to_control: Difference, margin: float) -> tuple[bool | None, str]:
    """Whether a winning ticket was found, None when the data do not say, and why in words.

    It is one when the interval of ticket - dense lies above -margin and ticket - re-initialized is clearly above zero:
    sparse nets that train as well from any first weights owe nothing to a lottery (Liu et al. 2019, arXiv:1810.05270).
    """
    points = f"{100 * margin:g} points"
    if to_dense.high < -margin:
        return False, f"no winning ticket: more than {points} below the dense net"
    if to_dense.low < -margin:
        return None, f"undecided: the interval of ticket - dense reaches from below -{points} to above"
    if to_control.clear and to_control.value > 0:
        return True, f"a winning ticket: within {points} of the dense net or above it, and above other first weights"
    return (
        False,
        f"no winning ticket: within {points} of the dense net, but not clearly above other first weights",
    )


class _Trial:
    """One experiment: a dense net, the rounds to its ticket, and the control, all under one seed."""

    def __init__(
        self, asked: LotteryTicket, task: Task, run: Run, builder: str, device: Any, seed: int, number: int
    ) -> None:
        from lessen.ops.training_plan import mix_seeds

        self.asked, self.task, self.run, self.builder, self.device = asked, task, run, builder, device
        self.number = number
        self.seed = seed if number == 0 else mix_seeds(seed, number)  # the first has the baseline's first weights
        self.right: dict[str, Any] = {}  # arm -> (images,) bool, on validation
        self.curves: list[dict[str, Any]] = []
        self.history: list[Any] = []  # of the ticket
        self.ticket: Any = None

    def play(self) -> None:
        """Train the dense net; prune, rewind and train in rounds; then the ticket's masks on other first weights."""
        from lessen.ops import sparsity, ties
        from lessen.ops.training_plan import mix_seeds

        asked, early = self.asked, self.asked.rewind_epoch
        net = self._fresh(self.seed)
        self._train(net, "dense", 0, early)
        rewound = {name: value.clone() for name, value in net.state_dict().items()}
        self._train(net, "dense", early, asked.epochs)
        self.right["dense"] = self._answers(net)
        for i in range(1, asked.rounds + 1):
            share = 1 - (1 - asked.sparsity) ** (i / asked.rounds)
            weights = ties.once(net)
            if asked.scope == "global":
                masks = sparsity.global_masks(weights, share, asked.floor)
            else:
                masks = sparsity.layer_masks(weights, share)
            net = self._masked(self._fresh(self.seed), masks, rewound)
            self.history = self._train(net, f"round {i}", early, asked.epochs)
        self.ticket, self.right["ticket"] = net, self._answers(net)
        other = self._masked(self._fresh(mix_seeds(self.seed, OTHER)), masks)
        self._train(other, "re-initialized", 0, asked.epochs)
        self.right["reset"] = self._answers(other)

    def _fresh(self, seed: int) -> nn.Module:
        from lessen.ops import layers

        with self.task.seeded(seed):
            return layers.own(self.task.build(self.builder)).to(self.device)

    def _masked(self, net: nn.Module, masks: dict[str, Tensor], state: dict[str, Tensor] | None = None) -> nn.Module:
        from lessen.ops import sparsity

        if state is not None:
            net.load_state_dict(state)
        sparsity.install(net, masks)
        return net

    def _train(self, net: nn.Module, arm: str, first: int, end: int) -> list[Any]:
        """Epochs first..end of the schedule, every arm on the same batches; returns and keeps their history."""
        from lessen.ops import train

        asked = self.asked
        whole = asked.repeats * (asked.rounds + 2)
        behind = self.number * (asked.rounds + 2) + len({c["arm"] for c in self.curves} - {arm})
        tell = self.run.progress
        progress = lambda done, words: tell((behind + done) / whole, f"{arm}, {words}")  # noqa: E731
        part = replace(self.run, history=[], notes=[], details={}, progress=progress)
        plan = train.Plan.of(asked, span=(first, end))
        with self.task.seeded(self.seed):
            train.fit(net, self.task, plan, part)
        self.run.notes += [note for note in part.notes if note not in self.run.notes]
        if part.history:
            scores = [epoch.score for epoch in part.history]
            self.curves.append({"arm": arm, "repeat": self.number, "first_epoch": first + 1, "scores": scores})
        return part.history

    def _answers(self, net: nn.Module) -> Any:
        """Which validation images it gets right, as numpy bools (images,)."""
        from lessen.ops.answering import answers

        x, y = self.task.split("validation")
        return (answers(net, self.task, x).argmax(1) == y).numpy()
