"""Weights below a threshold become zero and stay zero (Han et al. 2015, arXiv:1506.02626)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from lessen.core.errors import BadField, Refused
from lessen.core.run import Run
from lessen.core.task import Task
from lessen.core.technique import Doc, Range, Technique


class MagnitudePrune(Technique):
    """Unstructured pruning of every convolution and linear layer, the one that gives the logits included.

    `sparsity` is the share of all weights that are zero afterwards, earlier zeros counted.
    """

    paper: ClassVar[str] = "Han et al. 2015, arXiv:1506.02626"
    neutral: ClassVar[dict[str, Any] | None] = {"sparsity": 0.0}
    shown: ClassVar[tuple[str, ...]] = ("sparsity",)

    sparsity: Annotated[float, Range("share of weights that are zero afterwards", 0.0, 0.99)] = 0.5
    scope: Annotated[
        Literal["global", "layer"], Doc("rank the weights of all layers together, or every layer by itself")
    ] = "global"
    floor: Annotated[float, Range("share of its weights that every layer keeps under scope='global'", 0.0, 1.0)] = 0.01

    def _apply(self, model: Any, task: Task, run: Run) -> Any:
        from lessen.ops import layers, sparsity

        if self.scope == "global" and self.floor + self.sparsity > 1 + 1e-9:
            raise BadField(
                f"MagnitudePrune.floor = {self.floor} keeps more than sparsity = {self.sparsity} leaves; "
                f"at most {1 - self.sparsity:g} is possible"
            )
        weights = layers.weighted(layers.own(model))
        if not weights:
            raise Refused("MagnitudePrune finds no convolution or linear layer in this model; prune one that has some")
        if self.scope == "global":
            masks = sparsity.global_masks(weights, self.sparsity, self.floor)
        else:
            masks = sparsity.layer_masks(weights, self.sparsity)
        zeros = {path: int((~mask).sum()) for path, mask in masks.items()}
        for path, layer in weights.items():
            if zeros[path]:  # a mask of ones would only cost bytes
                layer.set_mask(masks[path])
        run.details["sparsity"] = {path: zeros[path] / masks[path].numel() for path in masks}
        run.details["zeros"] = sum(zeros.values())
        run.details["weights"] = sum(mask.numel() for mask in masks.values())
        return model
