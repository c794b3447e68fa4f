"""Models by text: names, arguments, the user's own functions, and what bad ones get."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lessen import models
from lessen.core.errors import BadField, BadRecipe, UnknownName
from lessen.core.text import Call, parse_call


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys, lessen.models as m; [m.describe(n) for n in m.names()]; "
        "print(len(m.names()), 'torch' in sys.modules, 'pydantic' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out[:2] == [str(len(models.names())), "False"]


def test_every_name_is_a_call_and_described_in_one_line() -> None:
    asked = "vgg8 vgg11 vgg13 vgg16 vgg19 resnet8 resnet20 resnet32 resnet44 resnet56 resnet110 resnet8x4 resnet32x4 "
    asked += "resnet18 resnet34 resnet50 wrn wrn16_2 wrn40_2 mobilenetv2 efficientnet_b0 densenet vit cnn fast75"
    assert set(asked.split()) <= set(models.names())
    for name in models.names():
        assert parse_call(name) == Call(name)
        assert 10 < len(models.describe(name)) < 110
        assert "\n" not in models.describe(name)


def test_builder_holds_all_that_was_given() -> None:
    model = models.build("vgg8(width=0.25, head=(16,))", shape=(1, 28, 28), classes=10)
    assert model.builder == Call("vgg8", {"width": 0.25, "head": (16,), "shape": (1, 28, 28), "classes": 10})


def test_a_name_is_its_family_with_fixed_arguments() -> None:
    for short, long in (
        ("wrn16_2", "wrn(depth=16, widen=2)"),
        ("vgg11", "vgg(depth=11)"),
        ("resnet56", "resnet(depth=56)"),
    ):
        with torch.device("meta"):
            one, two = models.build(short).state_dict(), models.build(long).state_dict()
        assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in two.items()}


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("resnet21", UnknownName, "unknown model 'resnet21'; did you mean 'resnet"),
        ("vgg11(widht=0.5)", UnknownName, "unknown field of vgg11 'widht'; did you mean 'width'?"),
        ("vgg11(width=0)", BadField, "vgg11.width = 0 is out of its range 0.01 to 16"),
        ("vgg11(width=True)", BadField, "vgg11.width = True is wrong"),
        ("vgg11(width='wide')", BadField, "vgg11.width = 'wide' is wrong"),
        ("vgg11(pools=(1, 6))", BadField, "vgg11.pools = (1, 6) is out of its range 1 to 5"),
        ("vgg11(depth=13)", BadField, "vgg11.depth is fixed to 11 by the name; write vgg(depth=13)"),
        ("vgg(depth=12)", BadField, "vgg.depth = 12 is wrong: input should be 8, 11, 13, 16 or 19"),
        ("resnet18(blocks=(1, 1, 1, 1))", BadField, "resnet18.blocks is fixed to (2, 2, 2, 2) by the name"),
        ("resnet(depth=18)", BadField, "resnet.depth = 18 is not 6n + 2; write 8, 14, 20"),
        ("wrn(depth=17)", BadField, "wrn.depth = 17 is not 6n + 4; write 10, 16"),
        ("densenet(depth=99)", BadField, "densenet.depth = 99 is not 6n + 4; write 40, 100"),
        ("vit(patch=5)", BadField, "vit.patch = 5 does not divide 32 x 32 pixels; write one of [1, 2, 4, 8, 16, 32]"),
        ("resnet20(classes=10)", BadField, "resnet20.classes comes from the task; leave it out"),
        ("resnet20(", BadRecipe, "cannot read 'resnet20('"),
    ],
)
def test_bad_text_gets_one_line_with_the_mend(text: str, error: type[Exception], line: str) -> None:
    with pytest.raises(error) as caught:
        models.build(text)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shape", "classes", "line"),
    [
        ("cnn", (28, 28), 10, "cnn.shape = (28, 28) is no image; give (channels, height, width)"),
        ("cnn", (1, 0, 8), 10, "cnn.shape = (1, 0, 8) is no image"),
        ("cnn", (1, 8, 8), 0, "cnn.classes = 0 is no number of classes"),
        ("fast75", (3, 1, 1), 10, "fast75.shape = (3, 1, 1) is too small; give at least 2 x 2 pixels"),
    ],
)
def test_bad_shapes(text: str, shape: tuple[int, ...], classes: int, line: str) -> None:
    with pytest.raises(BadField) as caught:
        models.build(text, shape=shape, classes=classes)
    assert line in str(caught.value)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_pools_are_left_out_where_the_map_would_vanish(side: int) -> None:
    for text in ("vgg8(width=0.1, pools=(1, 2, 3, 4, 5))", "cnn", "densenet(depth=10)", "resnet8", "mobilenetv2"):
        model = models.build(text, shape=(1, side, side), classes=3).eval()
        assert model(torch.randn(2, 1, side, side)).shape == (2, 3)


USERS = """
from torch import nn
calls = []

def tiny(classes, hidden=4):
    calls.append(hidden)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, classes))

def everything(**given): return nn.Sequential(nn.Flatten(), nn.Linear(64, given["classes"]))
def nothing(): return None
def wrong(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
def narrow(): return nn.Linear(9, 10)
def broken(): raise RuntimeError("no\\nweights")
number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text(USERS, encoding="utf-8")
    (tmp_path / "my_broken.py").write_text("import not_there_at_all", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("mine")
def test_the_users_own_function_is_built_and_rebuilt() -> None:
    model = models.build("my_models:tiny(hidden=6)", shape=(1, 8, 8), classes=10)
    assert model.builder == Call("my_models:tiny", {"hidden": 6, "shape": (1, 8, 8), "classes": 10})
    assert model.training
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    rebuilt = models.rebuild(model.builder)  # type: ignore[arg-type]
    assert rebuilt.state_dict()["1.weight"].shape == (6, 64)
    assert models.build("my_models:everything", shape=(1, 8, 8), classes=4)(torch.zeros(1, 1, 8, 8)).shape == (1, 4)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("my_modles:tiny", BadField, "cannot import 'my_modles' for model 'my_modles:tiny': ModuleNotFoundError"),
        ("my_broken:tiny", BadField, "No module named 'not_there_at_all'"),
        ("my_models:tinny", UnknownName, "unknown function of my_models 'tinny'; did you mean 'tiny'?"),
        ("my_models:number", BadField, "'my_models:number' is a int; name a function"),
        ("my_models:nothing", BadField, "'my_models:nothing' returned a NoneType; return a torch.nn.Module"),
        ("my_models:tiny(size=3)", BadField, "'my_models:tiny' failed: TypeError: tiny() got an unexpected"),
        ("my_models:broken", BadField, "'my_models:broken' failed: RuntimeError: no weights"),
        ("my_models:wrong", BadField, "gives (1, 3) for one sample; give logits of shape (1, 10)"),
        ("my_models:narrow", BadField, "the model of 'my_models:narrow' cannot take a sample of shape (1, 8, 8)"),
    ],
)
def test_what_the_users_function_did_wrong(text: str, error: type[Exception], line: str) -> None:
    with pytest.raises(error) as caught:
        models.build(text, shape=(1, 8, 8), classes=10)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
