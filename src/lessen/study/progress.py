"""A study's progress on a terminal: a live table with the time left; elsewhere one line a trial."""

from __future__ import annotations

import time
from collections import Counter, defaultdict

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from lessen.core.trial import Trial
from lessen.study.plan import Study
from lessen.study.watch import Now, Watch

ROWS = 12  # trials shown at once


def watch(console: Console | None = None) -> Watch:
    """The live table on a terminal, plain lines where output goes to a file or a pipe."""
    console = console or Console()
    return LiveTable(console) if console.is_terminal else Lines(console)


class Clock:
    """Learns what each kind of work takes, and from that what is left."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(list)
        self.at: tuple[object, ...] = ()
        self.kind, self.since = "", 0.0

    def see(self, now: Now, seconds: float) -> None:
        """Note where the study is at that time."""
        packing = now.text in ("pack", "measure")  # one kind of work
        kind = "measure" if packing else now.text.partition("(")[0]
        at = (now.recipe, now.seed, "measure" if packing else now.step)
        if at != self.at:
            self.end(seconds)
            self.at, self.kind, self.since = at, kind, seconds

    def end(self, seconds: float) -> None:
        """The work at hand is over."""
        if self.at:
            self.spent[self.kind].append(seconds - self.since)
        self.at = ()

    def left(self, work: Counter[str], seconds: float) -> float | None:
        """Seconds left for that work, the one at hand included; None before anything was seen."""
        known = {kind: sum(all_) / len(all_) for kind, all_ in self.spent.items()}
        if not known:
            return None
        usual = sum(known.values()) / len(known)
        whole = sum(n * known.get(kind, usual) for kind, n in work.items())
        at_hand = min(seconds - self.since, known.get(self.kind, usual)) if self.at else 0.0
        return max(whole - at_hand, 0.0)


class Lines(Watch):
    """One line a trial, and one at the start."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def started(self, study: Study, kept: list[Trial]) -> None:
        done, wanted = _count(study, kept)
        self._print(f"{study.name}: {wanted} trials of {study.model} on {study.task}, {done} done already")
        if done < wanted:
            self._print("                validation  file, bytes  recipe")

    def trial(self, trial: Trial) -> None:
        status, score, size, error = _outcome(trial)
        numbers = f"{score:>7}  {size:>11}" if not error else ""
        parts = (f"seed {trial.seed}", f"{status:6}", numbers, _name(trial), error)
        self._print("  ".join(part for part in parts if part))

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveTable(Watch):
    """The latest trials, the step at hand, and the time left."""

    def __init__(self, console: Console) -> None:
        self.console, self.clock = console, Clock()
        self.trials: list[Trial] = []
        self.now: Now | None = None
        self.title, self.kept, self.wanted = "", 0, 0
        self.live = Live(console=console, get_renderable=self._draw, refresh_per_second=4)

    def started(self, study: Study, kept: list[Trial]) -> None:
        self.kept, self.wanted = _count(study, kept)
        self.title = f"{study.name}: {study.model} on {study.task}"
        if self.kept < self.wanted:
            self.live.start()

    def step(self, now: Now) -> None:
        self.clock.see(now, time.monotonic())
        self.now = now

    def trial(self, trial: Trial) -> None:
        self.trials.append(trial)

    def stopped(self) -> None:
        self.now = None
        self.live.stop()

    def _draw(self) -> Table:
        table = Table(title=escape(self.title), caption=self._caption(), title_justify="left", caption_justify="left")
        table.add_column("recipe", overflow="fold", ratio=1)
        for name in ("seed", "step", "score", "bytes"):
            table.add_column(name, justify="right")
        table.add_column("status")
        for trial in self.trials[-ROWS:]:
            status, score, size, error = _outcome(trial)
            shown = f"[red]{status}[/] {escape(error)}" if error else f"[green]{status}[/]"
            table.add_row(escape(_name(trial)), str(trial.seed), "", score, size, shown)
        if self.now is not None:
            now = self.now
            status = f"{escape(now.text)} {now.share:.0%} {escape(now.note)}".replace(" 0% ", " ").strip()
            step = f"{now.step} of {now.steps}"
            table.add_row(escape(now.recipe or "baseline"), str(now.seed), step, "", "", status, style="bold")
        return table

    def _caption(self) -> str:
        left = self.clock.left(self.now.left, time.monotonic()) if self.now else 0.0
        done = self.kept + sum(trial.status == "done" for trial in self.trials)
        failed = sum(trial.status == "failed" for trial in self.trials)
        ends = f"about {_span(left)} left" if left else ""
        parts = (f"{done} of {self.wanted} trials done", f"{failed} failed" if failed else "", ends)
        return ", ".join(filter(None, parts))


def _count(study: Study, kept: list[Trial]) -> tuple[int, int]:
    """Trials of this study that are done, and all that it wants."""
    wanted = study.keys
    return sum(trial.status == "done" and trial.key in wanted for trial in kept), len(wanted)


def _name(trial: Trial) -> str:
    return trial.recipe or "baseline"


def _outcome(trial: Trial) -> tuple[str, str, str, str]:
    """Status, validation score (the test's is not for looking on), runnable bytes, error."""
    seen = trial.measurement
    if seen is None:
        return trial.status, "", "", trial.error
    score = f"{seen.validation.value:.2%}" if seen.validation else ""
    return trial.status, score, f"{seen.bytes.runnable:,}", ""


def _span(seconds: float) -> str:
    """12 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
