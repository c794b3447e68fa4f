"""What Linux tells of the processor, and what ONNX Runtime is told for it."""

from __future__ import annotations

import pytest

from lessen.artifact import runtimes
from lessen.core import processor


class Options:
    """As onnxruntime's, of which nothing can be read."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def add_session_config_entry(self, key: str, value: str) -> None:
        self.said[key] = value


@pytest.mark.parametrize(
    ("flags", "overflows", "told"),
    [
        ("fpu sse2 avx2", True, True), ("fpu sse2 avx2 avx512_vnni", False, False),
        ("fpu sse2 avx2 avx_vnni", False, False), ("fp asimd asimddp", False, True), (None, False, True),
    ],
)  # fmt: skip
def test_a_cpu_without_vnni_is_known_and_told_to_the_runtime(tmp_path, monkeypatch, flags, overflows, told):
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
        assert processor.name() == "AMD EPYC"
    assert processor.overflows() == overflows
    options = runtimes.exact_integers(Options())
    assert options.said == ({"session.x64quantprecision": "1"} if told else {})
