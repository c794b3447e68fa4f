"""The fields that teaching techniques share, declared once: the same name means the same everywhere."""

from __future__ import annotations

from typing import Annotated

from lessen.core.technique import Doc, Folder, Range

Teacher = Annotated[str, Folder("an artifact's folder; empty is the model that Student replaced, or before the recipe")]
Temperature = Annotated[float, Range("softens both before they are compared", 0.1, 100.0, log=True)]
Alpha = Annotated[float, Range("share of the soft term; the rest is the labels'", 0.0, 1.0)]
Standardize = Annotated[bool, Doc("compare each sample's logits less their mean, over their standard deviation")]
Hard = Annotated[float, Range("weight of the labels' cross-entropy", 0.0, 1_000.0)]
Soft = Annotated[float, Range("weight of LogitDistill's softened shares; 0 is off", 0.0, 1_000.0)]
Layers = Annotated[
    tuple[tuple[str, str], ...], Doc("(student's layer, teacher's layer) pairs by path; empty finds them by shape")
]
