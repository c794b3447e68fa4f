"""Numbers as people read them, with their units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from lessen.report.summary import NEAR, Line, Speed, Summary

THIN = "\u202f"  # narrow, and no line breaks at it
HARD = "\u00a0"  # a space at which no line breaks
DASH = "\u2013"
TIMES = "\u00d7"


def percent(share: float | None, digits: int = 1) -> str:
    return DASH if share is None else f"{100 * share:.{digits}f}{THIN}%"


class Spreading(Protocol):
    """A mean over seeds; its sd is None for one."""

    @property
    def mean(self) -> float: ...
    @property
    def sd(self) -> float | None: ...


def spread(stat: Spreading | None) -> str:
    """Mean and sd over seeds, in percent: "97.1 ± 0.2 %"."""
    if stat is None:
        return DASH
    return percent(stat.mean) if stat.sd is None else f"{100 * stat.mean:.1f}{THIN}±{THIN}{100 * stat.sd:.1f}{THIN}%"


def interval(low_high: tuple[float, float] | None) -> str:
    return "" if low_high is None else f"[{100 * low_high[0]:.1f}, {100 * low_high[1]:.1f}]"


def number(value: float | None) -> str:
    """Three digits and a letter: 75.3 k, 12.4 M."""
    if value is None:
        return DASH
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit * 0.9995:
            return f"{_three(value / limit)}{THIN}{letter}"
    return f"{value:.0f}"


def size(count: float | None) -> str:
    """Bytes in steps of 1,000: "53.2 kB"."""
    if count is None:
        return DASH
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= limit * 0.9995:
            return f"{_three(count / limit)}{THIN}{unit}"
    return f"{count:.0f}{THIN}B"


def bits(count: float) -> str:
    """Bits in steps of 1,000: "48.2 kbit"."""
    text = number(count)
    return f"{text}bit" if text[-1].isalpha() else f"{text}{THIN}bit"


def milliseconds(ms: float | None) -> str:
    return DASH if ms is None else f"{_three(ms)}{THIN}ms"


def seconds(s: float) -> str:
    if s < 90:
        return f"{_three(s, 1)}{THIN}s"
    return f"{s / 60:.0f}{THIN}min" if s < 5400 else f"{s / 3600:.1f}{THIN}h"


def factor(value: float | None) -> str:
    """A quotient in two or three digits: "5.1\u00d7", but "1.24\u00d7" where that is close to one."""
    return DASH if value is None else f"{_three(value, 2 if value < 1.995 else 1)}{TIMES}"


def points(share: float) -> str:
    """An absolute difference of scores: "0.2 points"."""
    text = f"{abs(100 * share):.1f}" if abs(share) >= 0.0005 else f"{abs(100 * share):.2f}"
    return f"{text}{HARD}point" + ("" if text == "1.0" else "s")


def signed(share: float) -> str:
    """Points with their sign: "+1.0", "-0.3"; "0.0" has none."""
    text = f"{100 * share:+.1f}"
    return "0.0" if float(text) == 0 else text


def lost(share: float) -> str:
    """A drop as words: "0.2 points lower", "0.1 points higher", "the same"."""
    return "the same" if abs(share) < 5e-5 else f"{points(share)} {'lower' if share > 0 else 'higher'}"


def plural(n: int, word: str) -> str:
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def listed(items: Sequence[object]) -> str:
    """ "a", "a and b", "a, b and c"."""
    words = [str(item) for item in items]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def smaller(line: Line, baseline: Line | None) -> float | None:
    """The baseline's runnable bytes over this recipe's."""
    return baseline.runnable / line.runnable if baseline and baseline.runnable and line.runnable else None


def faster(speed: Speed | None) -> str:
    if speed is None or speed.ratio is None:
        return "speed not compared"
    if 0.97 <= speed.ratio <= 1.03:
        return "as fast"
    return f"{factor(1 / speed.ratio)} faster" if speed.ratio < 1 else f"{factor(speed.ratio)} slower"


def wanted(s: Summary) -> str:
    """What a recommended recipe does."""
    limits = ", keeps to the target's limits" if s.limits != (None, None) else ""
    return f"is smaller or faster than the baseline{limits} and loses at most {points(s.max_drop)} of validation"


def luck(s: Summary) -> list[str]:
    """What so few seeds and so few images can show, said honestly."""
    said = []
    if s.seeds < 2 or not math.isfinite(s.visible):
        said.append(
            "With one seed a recipe nothing is known of the spread between trainings: a difference of any size"
            " may be luck. Run the study with more seeds to know."
        )
    else:
        said.append(
            f"With {s.seeds} seeds a recipe, a true difference on validation between a recipe and the baseline has"
            f" to be at least {points(s.visible)} to be seen in four of five such studies (paired t-test at 5{THIN}%;"
            f" differences vary by {100 * s.spread:.2f}{HARD}points (sd) between seeds, pooled over the recipes within"
            f" {points(NEAR)} of the baseline, {s.freedom} degrees of freedom). Smaller differences than that are"
            " not shown by these numbers."
        )
    measured = [m for line in s.lines for m in line.measured]
    if measured:
        n, v = measured[0].test.n, measured[0].validation
        if s.own_score:  # of which one sample may be more than of another
            said.append(f"The test split has {n:,} samples" + (f"; validation has {v.n:,}." if v else "."))
        else:
            sets = f"The test split has {n:,} samples, so one of them is {100 / n:.2f}{HARD}points"
            said.append(sets + (f"; validation has {v.n:,} ({100 / v.n:.2f}{HARD}points each)." if v else "."))
    return said


def _three(value: float, most: int = 3) -> str:
    """Three significant digits, at most `most` decimals."""
    value = float(f"{value:.3g}")  # 9.996 is 10.0, not 10.00
    digits = 0 if value == 0 else max(0, min(most, 2 - math.floor(math.log10(abs(value)) + 1e-9)))
    return f"{value:.{digits}f}"


def simple(text: str) -> str:
    """Without the spaces and signs that only a page needs."""
    for fine, plain in ((THIN, " "), (HARD, " "), (TIMES, "x")):
        text = text.replace(fine, plain)
    return text
