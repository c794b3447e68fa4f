"""Tasks by name, and the user's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lessen import tasks
from lessen.core.errors import BadData, BadField, BadRecipe, UnknownName

OWN = """
import numpy as np
from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask


def stripes(n=40, seed=0):
    x, y = np.zeros((n, 1, 8, 8), np.uint8), np.arange(n) % 2
    x[y == 1, :, ::2] = 255
    return ImageTask(Images(x, y, x[:10], y[:10], classes=("plain", "striped")), Settings(seed=seed))


def nothing():
    return 42


def broken():
    raise RuntimeError("the disk\\nis gone")


SIZE = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_stripes.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_stripes", raising=False)
    return "own_stripes"


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from lessen import tasks; "
        "assert tasks.names() == ('digits', 'cifar10', 'cifar100', 'fashion', 'folder'); "
        "print(*map(tasks.describe, tasks.names()), sep='\\n'); assert 'torch' not in sys.modules"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(out.stdout.splitlines()) == 5
    assert out.stderr == ""


@pytest.mark.parametrize("name", tasks.names())
def test_every_name_is_a_data_set_that_says_what_it_is(name: str) -> None:
    assert tasks.data_set(name).name == name
    assert 20 < len(tasks.describe(name)) < 120
    assert all(f.metadata for f in tasks.data_set(name).model_fields.values())


def test_text_makes_the_task_again() -> None:
    first = tasks.task("digits(crop=0, seed=2)")
    again = tasks.task(first.text)
    assert (again.text, again.fingerprint) == (first.text, first.fingerprint)
    assert tasks.task(first) is first


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown task 'digit'; did you mean 'digits'"):
        tasks.task("digit")
    with pytest.raises(UnknownName, match=r"known: digits, .*package\.module:function"):
        tasks.task("qqq(seed=1)")
    with pytest.raises(BadRecipe, match="cannot read"):
        tasks.task("digits(")


def test_a_users_function_is_a_task(own: str) -> None:
    task = tasks.task(f"{own}:stripes(n=50, seed=1)")
    assert task.text == f"{own}:stripes(n=50, seed=1)"
    assert len(task.split("train")) == 40
    assert task.fingerprint == tasks.task(task.text).fingerprint


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        ("nothing", BadField, r"'own_stripes:nothing' returned a int; return a lessen Task"),
        ("broken", BadData, r"task 'own_stripes:broken\(\)' failed: RuntimeError: the disk is gone"),
        ("stripes(m=3)", BadData, r"failed: TypeError: .*unexpected keyword argument 'm'"),
        ("stripse", UnknownName, "unknown function of own_stripes 'stripse'; did you mean 'stripes'"),
        ("SIZE", UnknownName, "unknown function of own_stripes 'SIZE'"),
    ],
)
def test_a_users_function_that_is_none(own: str, call: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        tasks.task(f"{own}:{call}")
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(
        BadField, match=r"cannot import 'no_such_module' for task .*; install it or run lessen in its folder"
    ):
        tasks.task("no_such_module:load")
