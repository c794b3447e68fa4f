"""What the machine says of itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lessen.core.target import Target
from lessen.measure import evidence, machine


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse2 avx2", True), ("fpu sse2 avx2 avx512_vnni", False), ("fpu sse2 avx2 avx_vnni", False),
        ("fp asimd asimddp", False), (None, False),
    ],
)  # fmt: skip
def test_a_cpu_without_vnni_is_known(tmp_path, monkeypatch, flags, expected):
    told = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "CPUINFO", told)
    if flags is not None:
        told.write_text(f"processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
        assert machine.cpu() == "AMD EPYC"
    assert machine.overflows() == expected


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
    monkeypatch.setattr(machine, "overflows", lambda: overflows)
    found = SimpleNamespace(runtime=runtime, operators=operators, infinite=0)
    notes = evidence._doubts(found, None, Target(), SimpleNamespace(sparse=()))
    assert any("this CPU has no VNNI: OpenVINO" in note for note in notes) == expected
