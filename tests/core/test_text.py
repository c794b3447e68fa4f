"""The one grammar: what is read, what is refused, and that writing and reading are inverse."""

from __future__ import annotations

import pytest

from lessen.core.errors import BadRecipe
from lessen.core.text import Call, format_call, parse_call, parse_chain, split_pair


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("resnet8", Call("resnet8")),
        ("  vgg11( )  ", Call("vgg11")),
        ("vgg11(width=0.5)", Call("vgg11", {"width": 0.5})),
        ("digits ()", Call("digits")),
        ("my.package:net(depth=-2, name='a(b', sizes=(1, 2), on=True)",
         Call("my.package:net", {"depth": -2, "name": "a(b", "sizes": (1, 2), "on": True})),
        ("f (x=None)", Call("f", {"x": None})),
    ],
)  # fmt: skip
def test_a_call_is_read(text: str, call: Call) -> None:
    assert parse_call(text) == call


@pytest.mark.parametrize(
    "args",
    [{}, {"a": 1, "b": -0.25}, {"s": 'it\'s "so" \\ \n'}, {"t": (1,), "u": ((1, 2), "x")}, {"n": None, "f": 1e-30}],
)
def test_writing_and_reading_are_inverse(args: dict) -> None:
    assert parse_call(format_call("name", args)) == Call("name", args)
    assert parse_chain(format_call("Name", args)) == [Call("Name", args)]
    assert str(Call("name", args)) == format_call("name", args)


@pytest.mark.parametrize(
    "text",
    [
        "", "(x=1)", "1x()", "a b", "f(x=1", "f(x=1))", "f(1)", "f(*[1])", "f(**{'x': 1})", "f(x=open('a'))", "f(x=y)",
        "f(x=[i for i in (1, 2)])", "f()()", "f()(x=1)", "f().g(x=1)", "f(x=1)[0]", "f(x=1, x=2)", "f(x=1); g()",
        "a..b()", "f(x=\x00)", "f(" + "(" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_call_of_literals_is_refused(text: str) -> None:
    with pytest.raises(BadRecipe):
        parse_call(text)


def test_a_chain_is_read_left_to_right() -> None:
    assert parse_chain("A() >> B(x=1) >> C()") == [Call("A"), Call("B", {"x": 1}), Call("C")]
    assert parse_chain("A()\n>> B()") == [Call("A"), Call("B")]
    assert parse_chain(" \n ") == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A() > B()", "write '>>'"),
        ("A() >> B() > C()", "write '>>'"),
        ("A", "lacks its brackets; write A()"),
        ("A() >> B", "lacks its brackets; write B()"),
        ("A() >>", "cannot read"),
        (">> A()", "cannot read"),
        ("A() | B()", "write A(x=1) >> B()"),
        ("A(), B()", "cannot read"),
        ("A(0.5)", "has no name; write field=value"),
        ("A(x=__import__('os').system('true'))", "is not a literal value"),
        ("A(**{'x': 1})", "is not a literal value"),
        ("A(x=1, x=2)", "'x' stands twice"),
        ("m.A()", "cannot read 'm.A()'"),
    ],
)
def test_a_bad_chain_is_refused_with_the_mend(text: str, says: str) -> None:
    with pytest.raises(BadRecipe) as e:
        parse_chain(text)
    assert says in str(e.value)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("digits/cnn", ("digits", "cnn")),
        ("cifar100(data='/d/c')/vgg11(width=0.5)", ("cifar100(data='/d/c')", "vgg11(width=0.5)")),
        ('folder(path="a(/b")/resnet8', ('folder(path="a(/b")', "resnet8")),
        ("digits/my.nets:small(path='/x')", ("digits", "my.nets:small(path='/x')")),
    ],
)
def test_a_pair_splits_outside_brackets_and_quotes(text: str, pair: tuple[str, str]) -> None:
    assert split_pair(text) == pair


@pytest.mark.parametrize("text", ["", "digits", "/cnn", "digits/", "folder(path='/a/b')"])
def test_half_a_pair_is_refused(text: str) -> None:
    with pytest.raises(BadRecipe, match="TASK/MODEL"):
        split_pair(text)
