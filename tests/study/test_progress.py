"""What a study shows while it runs."""

from __future__ import annotations

from collections import Counter
from io import StringIO

import pytest
from rich.console import Console

from lessen.core.trial import Trial
from lessen.study import Now, Study
from lessen.study.progress import Clock, Lines, LiveTable, _span, watch

STUDY = Study(name="small", task="digits", model="cnn", recipes=("Int8()",), seeds=(0, 1))


def trial(recipe: str = "Int8()", error: str = "") -> Trial:
    return Trial(
        study="small", recipe=recipe, seed=1, status="failed" if error else "done", error=error, task="digits()",
        task_fingerprint="f", model="cnn",
    )  # fmt: skip


def now(text: str, step: int, **more) -> Now:
    return Now("Int8()", 0, step, 3, text, **more)


def test_the_clock_learns_each_kind_of_work():
    clock = Clock()
    assert clock.left(Counter({"Int8": 1}), 0.0) is None
    clock.see(now("Finetune(epochs=2)", 1), 0.0)
    clock.see(now("Finetune(epochs=2)", 1, share=0.5), 5.0)
    clock.see(now("pack", 2), 10.0)  # Finetune took 10
    clock.see(now("measure", 3), 11.0)
    clock.see(now("Int8()", 1), 14.0)  # pack and measure took 4
    # 2 x 10 + 1 x 4 + Int8, unknown: the mean of both, 7; of that 3 are over
    assert clock.left(Counter({"Finetune": 2, "measure": 1, "Int8": 1}), 17.0) == pytest.approx(31 - 3)


def test_work_that_takes_longer_than_usual_leaves_the_rest():
    clock = Clock()
    clock.see(now("Int8()", 1), 0.0)
    clock.see(now("Int8()", 2), 2.0)
    assert clock.left(Counter({"Int8": 2}), 100.0) == pytest.approx(2.0)


def test_one_line_a_trial_where_there_is_no_terminal():
    said = StringIO()
    console = Console(file=said, width=40)
    lines = watch(console)
    assert isinstance(lines, Lines)
    lines.started(STUDY, [trial(), trial("Other()")])
    lines.trial(trial())
    lines.trial(trial("", error="Refused: [bold]no[/]; " + "do Y first " * 10))
    first, head, second, third = said.getvalue().splitlines()
    assert first == "small: 4 trials of cnn on digits, 1 done already"
    assert head.split() == ["validation", "file,", "bytes", "recipe"]
    assert second.split() == ["seed", "1", "done", "Int8()"]
    assert third.startswith("seed 1  failed  baseline  Refused: [bold]no[/]; do Y first")


def test_the_table_shows_trials_the_step_at_hand_and_escapes_markup():
    console = Console(file=StringIO(), width=120, force_terminal=True)
    live = watch(console)
    assert isinstance(live, LiveTable)
    live.started(STUDY, [])
    live.trial(trial("A(x='[red]')"))
    live.trial(trial("B()", error="Refused: no"))
    live.step(now("Finetune(epochs=2)", 1, share=0.5, note="epoch 1/2"))
    shown = StringIO()
    Console(file=shown, width=120).print(live._draw())
    live.stopped()
    text = shown.getvalue()
    parts = ("A(x='[red]')", "Refused: no", "1 of 3", "Finetune(epochs=2) 50% epoch 1/2", "1 of 4 trials", "1 failed")
    assert all(part in text for part in parts)


@pytest.mark.parametrize("seconds, text", [(12.4, "12 s"), (170, "3 min"), (9000, "2.5 h")])
def test_spans(seconds, text):
    assert _span(seconds) == text
