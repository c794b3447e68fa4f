"""One page and one JSON file of a survey; the page opens without a network."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.report.offline import asset, finite, plotly, policy

if TYPE_CHECKING:
    from lessen.inspect.survey import Sensitivity

HERE = "lessen.inspect"


def write(found: Sensitivity, folder: Path | str) -> Path:
    """Write `sensitivity.html` and `sensitivity.json` into the folder; returns the page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(finite(found.json()), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "sensitivity.json").write_text(numbers, encoding="utf-8")
    page = folder / "sensitivity.html"
    page.write_text(render(found), encoding="utf-8")
    return page


def render(found: Sensitivity) -> str:
    """The page as text."""
    from markupsafe import Markup

    from lessen import __version__
    from lessen.inspect import figures, findings, words

    scripts = [plotly(), asset("sensitivity.js", HERE)]
    data = {
        f"{name}-{scan.kind}": draw(scan)
        for scan in found.scans
        for name, draw in (("curves", figures.curves), ("heatmap", figures.heatmap))
    }
    return _page().render(
        found=found, findings=findings, words=words, figures=finite(data), version=__version__,
        css=Markup(asset("report.css") + asset("sensitivity.css", HERE)), scripts=[Markup(s) for s in scripts],
        policy=policy(scripts),
    )  # fmt: skip


@cache
def _page() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(lambda name: asset(name, HERE))
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return found.get_template("sensitivity.html.jinja")
