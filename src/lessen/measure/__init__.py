"""Evidence about an artifact, taken from its files in their runtime. Importing this room imports no torch."""

from __future__ import annotations

from lessen.measure.evidence import measure
from lessen.measure.quiet import quiet_machine

__all__ = ["measure", "quiet_machine"]
