"""What this machine's processor is and can do, as Linux tells it."""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def name() -> str:
    """The processor's name."""
    return _told("model name") or platform.processor() or platform.machine()


def adds_in_32_bits() -> bool:
    """Whether products of 8-bit integers are known to be added in 32 bits (VNNI); False where nothing is told."""
    return "vnni" in _told("flags")


def overflows() -> bool:
    """Whether they are known to be added in 16 bits: x86 without VNNI (AVX2)."""
    return "sse2" in _told("flags") and not adds_in_32_bits()


def _told(key: str) -> str:
    """What Linux tells of the first processor; "" where it tells nothing."""
    with suppress(OSError):
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            said, _, value = line.partition(":")
            if said.strip() == key:
                return value.strip()
    return ""
