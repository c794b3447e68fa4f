from __future__ import annotations

import pytest
from fake_study import trials

from lessen.report import words
from lessen.report.families import family_of, parts, short
from lessen.report.summary import Stat, summarize


def plain(text: str) -> str:
    return text.replace(words.THIN, " ").replace(words.HARD, " ")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (words.size(812), "812 B"),
        (words.size(53_240), "53.2 kB"),
        (words.size(999_960), "1.00 MB"),
        (words.size(None), words.DASH),
        (words.number(99_722), "99.7 k"),
        (words.number(4_410_000), "4.41 M"),
        (words.number(0), "0"),
        (words.percent(0.9712), "97.1 %"),
        (words.spread(Stat(0.9712, 0.0031, (0.1, 0.2))), "97.1 ± 0.3 %"),
        (words.spread(Stat(0.9712, None, (0.1,))), "97.1 %"),
        (words.interval((0.961, 0.9839)), "[96.1, 98.4]"),
        (words.milliseconds(0.2131), "0.213 ms"),
        (words.milliseconds(21.31), "21.3 ms"),
        (words.factor(5.14), f"5.1{words.TIMES}"),
        (words.factor(1.244), f"1.24{words.TIMES}"),
        (words.factor(123.4), f"123{words.TIMES}"),
        (words.points(-0.01), "1.0 point"),
        (words.points(0.0021), "0.2 points"),
        (words.points(0.0002), "0.02 points"),
        (words.lost(0.0021), "0.2 points lower"),
        (words.lost(-0.0021), "0.2 points higher"),
        (words.lost(0.0), "the same"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
        (words.listed([1]), "1"),
        (words.plural(1, "seed"), "1 seed"),
        (words.plural(1200, "seed"), "1,200 seeds"),
        (words.seconds(0.24), "0.2 s"),
        (words.seconds(600), "10 min"),
    ],
)
def test_numbers_as_people_read_them(shown, expected):
    assert plain(shown) == expected


def test_one_seed_is_said_to_show_nothing():
    one, two = summarize(trials(seeds=(0,))), summarize(trials())
    assert "one seed" in words.luck(one)[0]
    assert plain(words.luck(two)[0]).startswith("With 2 seeds a recipe, a true difference")
    assert "12 degrees of freedom" in words.luck(two)[0]
    assert plain(words.luck(two)[1]).endswith("validation has 225 (0.44 points each).")


def test_speed_in_words():
    line = next(x for x in summarize(trials()).lines if x.recipe == "Int8()")
    assert words.faster(line.speeds[0]).endswith("faster")
    assert words.faster(line.speeds[0]._replace(ratio=1.25)) == f"1.25{words.TIMES} slower"
    assert words.faster(line.speeds[0]._replace(ratio=1.01)) == "as fast"
    assert words.faster(None) == "speed not compared"


def test_a_recipe_in_parts():
    assert parts("Int8() >> Finetune(epochs=2)") == [("Int8", "()"), ("Finetune", "(epochs=2)")]
    assert parts("no recipe >") == [("no recipe >", "")]
    assert short("Int8() >> Finetune(epochs=2)") == "Int8 + Finetune"
    assert short("") == "baseline"


def test_a_family_is_what_the_steps_changed():
    rows = {t.recipe: t.records for t in trials(seeds=(0,))}
    healed = "MagnitudePrune(sparsity=0.8) >> Finetune(epochs=5)"
    mixed = "LowRank(ratio=0.5) >> Finetune(epochs=5) >> Int8()"
    assert family_of("") == "baseline"
    assert family_of(healed, rows[healed]) == "prune"
    assert family_of(mixed, rows[mixed]) == "combined"
    assert family_of("Unheard(x=1)") == "other"
