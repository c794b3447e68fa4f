"""At most n of every m consecutive weights live, a pattern that hardware can skip (Mishra et al. 2021, 2:4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from lessen.core.errors import BadField, Refused, UnknownName
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique

if TYPE_CHECKING:
    from torch import nn


class NMPrune(Technique):
    """Semi-structured pruning of every convolution and linear layer, along the axis that a product sums over.

    The weights of one output are taken in the order (kh, kw, in), input channels innermost, as sparse tensor cores
    reduce over them; every m of them keep the n highest scores, and so does a shorter last group. Weights that are
    pruned already count among the zeros. Cutting channels or factors later breaks the pattern: prune n:m last.
    """

    paper: ClassVar[str] = "Mishra et al. 2021, arXiv:2104.08378; Zhou et al. 2021, arXiv:2102.04010"
    neutral: ClassVar[dict[str, Any] | None] = {"n": 4, "m": 4}
    shown: ClassVar[tuple[str, ...]] = ("n", "m")

    n: Annotated[int, Range("weights that live, at most, of every m", 1, 256)] = 2
    m: Annotated[int, Range("consecutive weights of an output that make a group", 1, 256)] = 4
    criterion: Annotated[
        Literal["magnitude", "gradient", "random"], Doc("a weight's score: |w|, |w * gradient| of the loss, or chance")
    ] = "magnitude"
    whole: Annotated[tuple[str, ...], Doc("paths of layers that stay as they are")] = ()

    def _apply(self, model: nn.Module, task: Task, run: Run) -> nn.Module:
        import torch

        from lessen.ops import layers, saliency, sparsity, ties

        if self.n > self.m:
            raise BadField(f"NMPrune.n = {self.n} of m = {self.m} is no share; set n to at most {self.m}")
        weights = layers.weighted(layers.own(model))
        if not weights:
            raise Refused("NMPrune finds no convolution or linear layer in this model; prune one that has some")
        for path in self.whole:
            if path not in weights:
                raise UnknownName("layer in NMPrune.whole", path, weights)
        sparsity.refuse_signs(weights, "NMPrune")
        whole = {id(weights[path].weight) for path in self.whole}
        chosen = {path: layer for path, layer in ties.once(model).items() if id(layer.weight) not in whole}
        scores = saliency.scores(model, self.criterion, task, torch.initial_seed())
        sparsity.install(model, sparsity.group_masks(chosen, self.n, self.m, scores))
        rest = {path: layer.weight[0].numel() % self.m for path, layer in chosen.items()}
        odd = {path: r for path, r in rest.items() if r}
        if odd:
            least = min(odd.values())
            run.details["last_group"] = odd
            run.notes.append(
                f"{len(odd)} of {len(chosen)} layers end in a group shorter than {self.m}, down to {least}; "
                f"it keeps {self.n} at most as well"
            )
        run.details.update(sparsity.account(ties.once(model)))
        run.notes += sparsity.left_dense(model)
        return model
