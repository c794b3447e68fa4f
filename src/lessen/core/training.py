"""The fields that every training technique shares, declared once: the same name means the same everywhere."""

from __future__ import annotations

from typing import Annotated, Literal

from lessen.core.technique import Doc, Range

Epochs = Annotated[int, Range("passes over the training data", 0, 10_000)]
Rate = Annotated[float, Range("learning rate at its peak", 1e-6, 10.0, log=True)]
BatchSize = Annotated[int, Range("samples a step", 2, 65_536, log=True)]
Optimizer = Annotated[
    Literal["sgd", "adamw", "muon", "muon-unit"],
    Doc("muon moves hidden weights, AdamW the rest; muon-unit keeps their rows at unit length"),
]
Schedule = Annotated[Literal["cosine", "linear", "onecycle", "step", "constant"], Doc("the learning rate over the run")]
Warmup = Annotated[float, Range("epochs in which the learning rate rises", 0.0, 1_000.0)]
Momentum = Annotated[float, Range("momentum, or Adam's first beta", 0.0, 0.999)]
Decay = Annotated[float, Range("decay of weights; biases, norms and scales have none", 0.0, 1.0)]
Smoothing = Annotated[float, Range("share of the labels' target spread over all classes", 0.0, 0.9)]
Augment = Annotated[bool, Doc("change training samples at random")]
Unblended = Annotated[int, Range("last epochs on whole images: the task's mixup and CutMix are off", 0, 10_000)]
Precision = Annotated[
    Literal["32", "bf16", "16"],
    Doc("floats of matrix products while it trains; 16 needs a GPU; bf16 is 32 on a CPU without it"),
]
Sizes = Annotated[tuple[int, ...], Range("sides in pixels, each for an equal share of the run", 1, 4096)]
