"""Pages and JSON files of what was found; a page opens without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.report.offline import asset, finite, plotly, policy

if TYPE_CHECKING:
    from lessen.inspect.closeness.found import Close
    from lessen.inspect.closeness.seeds import Seeds
    from lessen.inspect.inside import Inside
    from lessen.inspect.side_by_side import Beside
    from lessen.inspect.survey import Sensitivity

HERE = "lessen.inspect"


def write(found: Sensitivity | Beside | Inside | Close | Seeds, folder: Path | str) -> Path:
    """Write `sensitivity`, `beside`, `inside`, `close` or `seeds`, as .html and .json, into the folder; the page."""
    name = type(found).__name__.lower()
    text = {
        "sensitivity": render, "beside": render_beside, "inside": render_inside, "close": render_close,
        "seeds": render_seeds,
    }[name]  # fmt: skip
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps(found.json(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / f"{name}.json").write_text(numbers, encoding="utf-8")
    page = folder / f"{name}.html"
    page.write_text(text(found), encoding="utf-8")  # type: ignore[arg-type]
    return page


def render(found: Sensitivity) -> str:
    """The page of scans as text."""
    from lessen.inspect import figures, findings, words

    data = {
        f"{name}-{scan.kind}": draw(scan)
        for scan in found.scans
        for name, draw in (("curves", figures.curves), ("heatmap", figures.heatmap))
    }
    scripts = [plotly(), asset("sensitivity.js", HERE)]
    return _filled("sensitivity", scripts, found=found, findings=findings, words=words, figures=finite(data))


def render_beside(found: Beside) -> str:
    """The page of models side by side as text; it has no script."""
    from lessen.inspect import drawings, findings, remarks

    return _filled("beside", [], found=found, draw=drawings, findings=findings, remarks=remarks)


def render_inside(found: Inside) -> str:
    """The page of errors and distributions as text; it has no script."""
    from lessen.inspect import causes, drawings, findings, strips, tails

    return _filled(
        "inside", [], found=found, draw=drawings, findings=findings, causes=causes, tails=tails, strip=strips
    )


def render_close(found: Close) -> str:
    """The page of how close models are to the original as text; it has no script."""
    from lessen.inspect import drawings, remarks
    from lessen.inspect.closeness import answers, draw, words

    return _filled(
        "close", [], found=found, draw=drawings, sketch=draw, words=words, remarks=remarks,
        temperatures=answers.TEMPERATURES,
    )  # fmt: skip


def render_seeds(found: Seeds) -> str:
    """The page of how close recipes are over seeds as text; it has no script."""
    from lessen.inspect import drawings
    from lessen.inspect.closeness import seed_draw, seed_words

    return _filled("seeds", [], found=found, draw=drawings, sketch=seed_draw, words=seed_words)


def _filled(name: str, scripts: Sequence[str], **values: Any) -> str:
    """A template of this room with what every page carries."""
    from markupsafe import Markup

    from lessen import __version__

    return _page(name).render(
        css=Markup(asset("report.css") + asset("inspect.css", HERE)), scripts=[Markup(s) for s in scripts],
        policy=policy(scripts), version=__version__, **values,
    )  # fmt: skip


@cache
def _page(name: str) -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    loader = FunctionLoader(lambda file: asset(file, HERE))
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return found.get_template(f"{name}.html.jinja")
