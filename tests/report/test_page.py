from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import plotly.graph_objects as go
import pytest
from fake_study import DESCRIPTION, RECIPES, trials

from lessen.core.errors import BadStudy
from lessen.report import render, write
from lessen.report.figures import wrap
from lessen.report.layers import numbers
from lessen.report.steps import steps_of
from lessen.report.summary import summarize
from lessen.report.words import TIMES
from lessen.store import Store

EVIL = """<script>alert(1)</script>'"--><!--<img src=x onerror=alert(2)>\u2028${7*7}{{ 7*7 }}"""


class Page(HTMLParser):
    """Tags with their attributes, and the contents of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def html() -> str:
    return render(trials(), DESCRIPTION, folder="demo", extra={"license": "CC BY 4.0", "versions": {"torch": "2.13"}})


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_says_what_was_won(page: Page):
    for said in ("Smallest", "Fastest", "Most accurate", f"8.7{TIMES} smaller", "instead of", "CC BY 4.0", "torch 2.13",
                 "lessen study study.yaml -o demo", "Example CPU 3000", "do Int8 after Student", "5f5f5f"):  # fmt: skip
        assert said.lower() in page.text.lower(), said
    command = (
        "OMP_NUM_THREADS=1 lessen train digits/cnn --recipe 'Finetune(epochs=12)' --seed 0 -o small-baseline"
        " OMP_NUM_THREADS=1 lessen compress small-baseline"
        " 'ChannelPrune(ratio=0.4) >> LogitDistill(epochs=10) >> Int8()' --seed 0 -o small"
    )
    assert command in page.text


def test_every_recipe_is_a_row_with_a_number_to_sort_by(page: Page):
    cells = [attrs["data-sort"] for tag, attrs in page.tags if tag in ("td", "th") and "data-sort" in attrs]
    heads = 2 + 1 + 2 + 4 + 3 + 2 + 2 + 2
    assert len(cells) == heads * len(RECIPES)
    by_row = [cells[i : i + heads] for i in range(0, len(cells), heads)]
    assert [row[0] for row in by_row] == [str(i) for i in range(len(RECIPES))]
    assert all(float(v) >= 0 for row in by_row[:-1] for v in row[2:])
    assert set(by_row[-1][3:-1]) == {""}  # what failed has no numbers


def test_nothing_comes_from_outside(html: str, page: Page):
    plotly = max(page.scripts, key=len)
    assert len(plotly) > 1_000_000
    rest = html.replace(plotly, "")
    assert html.count(plotly) == 1
    assert not re.search(r"https?:|//[a-z]|url\(|@import", rest.replace("// ", ""))
    assert not [a for _, a in page.tags if "src" in a or str(a.get("href", "#"))[0] != "#"]


def test_only_the_pages_own_scripts_may_run(page: Page):
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv"))
    assert policy and policy.startswith("default-src 'none'")
    for script in page.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_texts_from_users_break_out_of_nothing():
    rows = trials(recipes=("", "Int8()"))
    note = rows[2].records[0].model_copy(update={"notes": (EVIL,), "details": {EVIL: {EVIL: 1.0, "b": 2.0}}})
    machine = rows[2].measurement.machine.model_copy(update={"cpu": EVIL})  # type: ignore[union-attr]
    measurement = rows[2].measurement.model_copy(update={"machine": machine})  # type: ignore[union-attr]
    evil = rows[2].model_copy(update={"recipe": EVIL, "records": (note,), "measurement": measurement})
    failed = rows[3].model_copy(update={"recipe": EVIL, "status": "failed", "error": EVIL, "seed": 5})
    everywhere = {"task": EVIL, "model": EVIL, "study": EVIL, "task_fingerprint": EVIL, "finished": EVIL}
    rows = [t.model_copy(update=everywhere) for t in (*rows[:2], evil, failed)]
    html = render(rows, {"name": EVIL, "target": EVIL}, folder=EVIL, extra={"license": EVIL, "versions": {EVIL: EVIL}})
    clean, page = Page(render(trials(), DESCRIPTION)), Page(html)
    assert len(page.scripts) == len(clean.scripts) == 3
    assert page.scripts[1:] == clean.scripts[1:]
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in clean.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert page.text.count("alert(1)") > 10  # shown as text
    assert "49" not in [word.strip() for word in page.words]
    recipes = page.data["recipes"].values()
    figures = [f for r in recipes for f in (r["waterfall"], r["curves"], *(layer["figure"] for layer in r["layers"]))]
    drawn = json.dumps([page.data["figures"], figures])  # the titles of layers are put in as text, not by plotly
    assert "alert(1)" in drawn
    assert "<script" not in drawn and "<img" not in drawn  # plotly knows tags, too


def test_plotly_knows_every_field_of_every_figure(page: Page):
    figures = [{k: v for k, v in figure.items() if k != "below"} for figure in page.data["figures"].values()]
    for recipe in page.data["recipes"].values():
        figures += [recipe["waterfall"], recipe["curves"], *(layer["figure"] for layer in recipe["layers"])]
    drawn = [go.Figure(figure) for figure in figures if figure]
    assert len(drawn) > 30
    assert all(figure.data for figure in drawn)


def test_the_waterfall_ends_at_the_file(page: Page):
    line = next(x for x in summarize(trials()).lines if x.number == 9)
    assert [step.name for step in steps_of(line)] == ["Finetune", "ChannelPrune", "LogitDistill", "Int8"]
    assert [step.family for step in steps_of(line)] == ["baseline", "prune", "distill", "quantize"]
    bars = [trace for trace in page.data["recipes"]["9"]["waterfall"]["data"] if trace["type"] == "bar"]
    left = [99_722 * 32, 39_888 * 32, 39_888 * 32, int(39_888 * 32 * 1.01 * 0.26)]
    assert bars[0]["base"][1:] == pytest.approx([bits / 8000 for bits in left[1:]], abs=0.01)
    assert bars[0]["x"][0] == pytest.approx(left[0] / 8000)
    assert bars[1]["x"] == [pytest.approx(line.runnable / 1000)]  # type: ignore[operator]


def test_details_of_any_shape_become_bars_by_layer():
    record = trials(seeds=(0,))[0].records[0]
    details = {
        "sparsity": {"a": 0.5, "b": 0.25, "c": float("nan")},
        "channels": {"a": [16, 8], "b": (32, 20)},
        "layers": {"a": {"rank": 3, "kind": "conv"}, "b": {"rank": 4}},
        "macs": [10, 5], "kept": 0.5, "teacher": "x", "one": {"a": 1.0}, "flags": {"a": True, "b": False},
    }  # fmt: skip
    assert dict(numbers(record.model_copy(update={"details": details}))) == {
        "sparsity": {"a": (0.5,), "b": (0.25,)},
        "channels": {"a": (16.0, 8.0), "b": (32.0, 20.0)},
        "layers, rank": {"a": (3.0,), "b": (4.0,)},
    }


def test_long_words_wrap_and_are_escaped():
    assert wrap("a" * 50, 44) == "a" * 44 + "<br>" + "a" * 6
    assert wrap("a <b> c", 4) == "a<br>&lt;b&gt;<br>c"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        trials(recipes=RECIPES[-1:]),
        trials(recipes=RECIPES[1:4]),
        trials(seeds=(0,)),
        trials(recipes=("",)),
        [t.model_copy(update={"records": ()}) for t in trials(recipes=RECIPES[:3])],
        [
            t.model_copy(update={"final": True, "measurement": t.measurement.model_copy(update={"validation": None})})
            for t in trials(recipes=RECIPES[:3])
            if t.measurement
        ],
        [
            t.model_copy(update={"measurement": t.measurement.model_copy(update={"latency": ()})})
            for t in trials(recipes=RECIPES[:3])
            if t.measurement
        ],
    ],
    ids=["empty", "failed", "no baseline", "one seed", "baseline only", "no records", "final", "no latency"],
)
def test_an_odd_study_is_a_page_too(rows):
    page = Page(render(rows))
    assert page.data.keys() == {"figures", "recipes", "questions"}
    assert f"{len(rows) - sum(t.status == 'failed' for t in rows)} trial" in page.text


def test_a_number_that_is_none_leaves_the_page_readable():
    rows = trials(recipes=RECIPES[:2])
    seen = rows[2].measurement
    assert seen is not None
    score = seen.test.model_copy(update={"value": float("nan")})
    rows[2] = rows[2].model_copy(update={"measurement": seen.model_copy(update={"validation": score})})
    assert "NaN" not in Page(render(rows)).scripts[0]


def run_folder(path: Path) -> Path:
    with Store(path / "study.db") as store:
        for trial in trials():
            store.add(trial)
        store.set_description(json.dumps(DESCRIPTION))
    return path


def test_a_run_folder_is_drawn_without_torch(tmp_path: Path):
    run = run_folder(tmp_path)
    (run / "artifacts" / "0").mkdir(parents=True)
    (run / "artifacts" / "0" / "manifest.json").write_text('{"license": "CC BY 4.0", "versions": {"onnx": "1.20"}}')
    code = (
        "import sys; from lessen.report import write; print(write(sys.argv[1]));"
        "print(sorted({'torch', 'pandas', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(run / "report.html"), "[]"]
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert "CC BY 4.0" in page.text and "onnx 1.20" in page.text and "name: demo" in page.text
    assert not list(run.glob("*.part"))


def test_write_goes_where_it_is_told_and_says_when_there_is_nothing(tmp_path: Path):
    out = write(run_folder(tmp_path), tmp_path / "new" / "page.html")
    assert out == tmp_path / "new" / "page.html" and out.stat().st_size > 1_000_000
    with pytest.raises(BadStudy, match="there is no study"):
        write(tmp_path / "nowhere")
