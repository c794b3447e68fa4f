"""A recipe's text and its Python are one spelling; its steps run in order and know what came before."""

from __future__ import annotations

import pytest
from toy_task import Scale, Shake, ToyTask, find

from lessen.core.errors import BadField, BadRecipe, UnknownName
from lessen.core.recipe import Recipe
from lessen.core.run import Run

TEXTS = [
    "",
    "Scale()",
    "Scale(by=3.0) >> Shake()",
    "Shake() >> Scale(by=0.5, steps=2) >> Scale(scope='first') >> Shake()",
]


@pytest.mark.parametrize("text", TEXTS)
def test_the_text_comes_back(text: str) -> None:
    recipe = Recipe.parse(text, find)
    assert str(recipe) == repr(recipe) == text
    assert Recipe.parse(str(recipe), find) == recipe


@pytest.mark.parametrize("text", TEXTS[1:])
def test_the_text_is_python_and_means_the_same(text: str) -> None:
    assert Recipe.of(eval(text, {"Scale": Scale, "Shake": Shake})) == Recipe.parse(text, find)


def test_a_bare_greater_than_cannot_lose_a_technique() -> None:
    with pytest.raises(TypeError):
        Scale() > Shake()  # type: ignore[operator]  # noqa: B015
    with pytest.raises(BadRecipe, match="write '>>'"):
        Recipe.parse("Scale() > Shake()", find)


def test_joining_flattens_whatever_the_brackets() -> None:
    a, b, c = Scale(by=1.0), Shake(), Scale()
    assert (a >> b) >> c == a >> (b >> c) == Recipe(steps=(a, b, c))
    assert Recipe() >> a == Recipe.of(a) and len(a >> b >> c) == 3 and list(a >> b) == [a, b]
    assert hash(a >> b) == hash(a >> b)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("Scal()", UnknownName, "unknown technique 'Scal'; did you mean 'Scale'?"),
        ("Scale(step=1)", UnknownName, "did you mean 'steps'?"),
        ("Shake() >> Scale(by=11.0)", BadField, "Scale.by = 11.0"),
        ("Scale(by='2')", BadField, "Scale.by = '2'"),
        ("Scale(2.0)", BadRecipe, "has no name"),
    ],
)
def test_a_bad_recipe_says_where(text: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as e:
        Recipe.parse(text, find)
    assert says in str(e.value)


def test_steps_run_in_order_and_know_what_was_done() -> None:
    model = [1.0, 2.0]
    changed, records = (Scale(by=3.0) >> Shake() >> Scale(by=0.0)).apply(model, ToyTask(), seed=1)
    assert model == [1.0, 2.0] and changed == [0.0, 0.0]
    assert [r.technique for r in records] == ["Scale(by=3.0)", "Shake()", "Scale(by=0.0)"]
    assert records[1].details == {"done": ["Scale(by=3.0)"], "origin": [1.0, 2.0]}
    assert records[1].after == records[2].before


def test_a_recipe_in_parts_equals_the_whole() -> None:
    task, model, run = ToyTask(), [1.0, 2.0], Run()
    whole, _ = (Shake() >> Scale() >> Shake()).apply(model, task, seed=4)
    half, _ = (Shake() >> Scale()).apply(model, task, seed=4, run=run)
    assert Shake().apply(half, task, seed=4)[0] == whole
    assert run == Run()


def test_the_empty_recipe_changes_nothing() -> None:
    model = [1.0]
    assert Recipe().apply(model, ToyTask()) == (model, ())
