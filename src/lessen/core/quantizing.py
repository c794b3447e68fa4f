"""The fields that quantizing techniques share, declared once: the same name means the same everywhere."""

from __future__ import annotations

from typing import Annotated, Literal

from lessen.core.technique import Doc, Range

Rule = Literal["coverage", "mse", "kl"]
Group = Annotated[
    int, Range("consecutive weights of a row (in, kh, kw) with one scale, the last fewer; 0 is the row", 0, 65_536)
]
Symmetric = Annotated[bool, Doc("zero is the middle of the integers; otherwise each scale has a zero point")]
Levels = Annotated[
    Literal["uniform", "log"], Doc("of weights: equal steps, or powers of two, which need symmetric, and 4 or 3 bits")
]
Activations = Annotated[Literal[8, 4, "float"], Doc("bits of activations; groups of weights need 'float'")]
Ends = Annotated[Literal[8, 4, "float"], Doc("bits of the weights of the first and the last layer")]
SignScale = Annotated[
    Literal["mean", "learned", "one"], Doc("of a channel: mean size of its living weights, trained from there, or 1")
]
SignActivations = Annotated[
    Literal["float", 8, 1], Doc("bits of activations; 1: signs where these layers read, 8 bits elsewhere")
]
Coverage = Annotated[float, Range("share of activations that ranges cover, 1 is min-max", 0.9, 1.0)]
Ranges = Annotated[Rule, Doc("activation ranges have that share, least squared error, or least information lost")]
WeightCoverage = Annotated[float, Range("share of weights that ranges cover, 1 is min-max", 0.9, 1.0)]
WeightRanges = Annotated[Rule, Doc("weight ranges have that share, least squared error, or least information lost")]
Rounding = Annotated[
    Literal["nearest", "gptq"],
    Doc("of weights: to the nearest level, or by columns that make up for errors (GPTQ, arXiv:2210.17323)"),
]
CorrectBias = Annotated[bool, Doc("give each channel the mean that it had before rounding")]
Equalize = Annotated[bool, Doc("even out channels between layers that only a ReLU separates, before rounding")]
Samples = Annotated[int, Range("calibration samples to look at; 0 is all (256 for biases)", 0, 1_000_000)]
