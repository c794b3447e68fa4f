"""One grammar for techniques, models and tasks: a call with literal keyword arguments, `Name(x=1, y="z")`.

The text is parsed as Python and only literals are read; nothing is evaluated. A recipe is a chain of
such calls, `A(x=1) >> B()`, which means the same as Python code.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from lessen.core.errors import BadRecipe


@dataclass(frozen=True)
class Call:
    """A name and its keyword arguments, as read from text.

    >>> parse_call('vgg11(width=0.5)')
    Call(name='vgg11', args={'width': 0.5})
    """

    name: str
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return format_call(self.name, self.args)


def format_call(name: str, args: dict[str, Any]) -> str:
    """The text that `parse_call` reads back."""
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in args.items())})"


def parse_call(text: str) -> Call:
    """Read `name`, `name()` or `name(k=literal)`; a name may be `package.module:function`."""
    head, paren, _ = text.strip().partition("(")
    if not head or not all(part.isidentifier() for part in head.strip().replace(":", ".").split(".")):
        raise BadRecipe(f"cannot read '{text}'; write Name(field=value)")
    if not paren:
        return Call(head.strip(), {})
    node = _expression("f" + text.strip()[len(head) :], text)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise BadRecipe(f"cannot read '{text}'; write Name(field=value)")
    return Call(head.strip(), _literals(node, text))


def parse_chain(text: str) -> list[Call]:
    """Read `A(x=1) >> B()` into its calls, left to right; empty text is an empty chain."""
    if not text.strip():
        return []
    node, calls = _expression(text, text), []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift):
        calls.append(_step(node.right, text))
        node = node.left
    calls.append(_step(node, text))
    return calls[::-1]


def split_pair(text: str) -> tuple[str, str]:
    """Split `TASK/MODEL` at its first slash outside brackets and quotes.

    >>> split_pair('folder(path="/data/pets")/resnet8(width=0.5)')
    ('folder(path="/data/pets")', 'resnet8(width=0.5)')
    """
    depth, quote = 0, ""
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "/" and depth == 0 and 0 < i < len(text) - 1:
            return text[:i], text[i + 1 :]
    raise BadRecipe(f"cannot read '{text}' as TASK/MODEL; write for example digits/cnn")


def with_args(text: str, **args: Any) -> str:
    """The same call with these arguments set.

    >>> with_args("digits(seed=1)", final=True)
    'digits(seed=1, final=True)'
    """
    call = parse_call(text)
    return format_call(call.name, {**call.args, **args})


def _expression(source: str, text: str) -> ast.expr:
    try:
        return ast.parse(f"({source})", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise BadRecipe(f"cannot read '{text}': {getattr(e, 'msg', e)}; write A(x=1) >> B()") from None


def _step(node: ast.expr, text: str) -> Call:
    if isinstance(node, ast.Compare) and any(isinstance(op, ast.Gt) for op in node.ops):
        raise BadRecipe(f"'{text}' joins techniques by '>', which loses some of them; write '>>'")
    if isinstance(node, ast.Name):
        raise BadRecipe(f"'{node.id}' in '{text}' lacks its brackets; write {node.id}()")
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise BadRecipe(f"cannot read '{ast.unparse(node)}' in '{text}'; write A(x=1) >> B()")
    return Call(node.func.id, _literals(node, text))


def _literals(node: ast.Call, text: str) -> dict[str, Any]:
    if node.args:
        raise BadRecipe(f"'{ast.unparse(node.args[0])}' in '{text}' has no name; write field=value")
    args: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg in args:  # ast.parse lets a repeated name pass; only the compiler objects
            raise BadRecipe(f"'{keyword.arg}' stands twice in '{text}'")
        try:
            if keyword.arg is None:
                raise ValueError
            args[keyword.arg] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise BadRecipe(f"'{ast.unparse(keyword)}' in '{text}' is not a literal value") from None
    return args
