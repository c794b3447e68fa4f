"""What every page carries so that it opens without a network: styles, plotly, a policy that keeps all else out."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def asset(name: str, package: str = "lessen.report") -> str:
    """A file that comes with the package, as text."""
    return (files(package) / name).read_text(encoding="utf-8")


def plotly() -> str:
    """All of plotly's JavaScript."""
    return asset("package_data/plotly.min.js", "plotly")


def policy(scripts: Sequence[str]) -> str:
    """A content security policy: only these very scripts run, and nothing is ever loaded from anywhere."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    sources = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:;"
        " base-uri 'none'; form-action 'none'"
    )


def finite(node: Any) -> Any:
    """NaN and infinity as null: JSON has no word for them, and one would silence the whole page."""
    if isinstance(node, Mapping):
        return {key: finite(item) for key, item in node.items()}
    if isinstance(node, list | tuple):
        return [finite(item) for item in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
