"""What the machine says of itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lessen.core import processor
from lessen.core.target import Target
from lessen.measure import evidence


@pytest.mark.parametrize(
    ("runtime", "operators", "overflows", "expected"),
    [
        ("openvino 2026.4", {"Convolution u8": 3, "Reorder": 1}, True, True),
        ("openvino 2026.4", {"Convolution u8": 3}, False, False),
        ("openvino 2026.4", {"Convolution": 3}, True, False),
        ("onnxruntime 1.32", {"QLinearConv": 3}, True, False),
    ],
)
def test_openvino_s_overflows_are_told(monkeypatch, runtime, operators, overflows, expected):
    monkeypatch.setattr(processor, "overflows", lambda: overflows)
    found = SimpleNamespace(runtime=runtime, operators=operators, infinite=0)
    notes = evidence._doubts(found, None, Target(), SimpleNamespace(sparse=()))
    assert any("this CPU has no VNNI: OpenVINO" in note for note in notes) == expected
