"""How close models are: likeness with itself, which of two is nearer by hand, words by rule, the page, bad requests."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import torch
from nets import Branching, Residual, data, inputs, make

from lessen import catalog
from lessen.cli import app
from lessen.core.errors import BadField
from lessen.inspect import Shown, beside, close, page, text, write
from lessen.inspect.closeness import answers, contests, draw, features
from lessen.ops.bootstrap import Estimate
from lessen.ops.confidence import Bin

RECIPES = {"near": "Int8()", "far": "ChannelPrune(ratio=0.7)"}


@pytest.fixture(scope="module")
def found(trained, digits):
    made = {name: catalog.recipe(recipe).apply(trained, digits)[0] for name, recipe in RECIPES.items()}
    shown = [Shown("original", trained, "baseline"), *(Shown(name, made[name], RECIPES[name]) for name in made)]
    return close(beside(shown, digits, images=60), shown, digits, images=60)


def test_the_original_is_like_itself(found):
    own = found.answers[0]
    assert (own.agreement.mean, own.kl.mean, own.js.mean) == pytest.approx((1, 0, 0)) and own.repeated == own.mistakes
    assert all(m.cka[0].mean == pytest.approx(1) for m in found.aligned.matches)
    assert np.diag(np.array(found.aligned.matrices[0])) == pytest.approx(1)
    assert all(a.cosine[0].mean == pytest.approx(1) and a.moved[0].mean == pytest.approx(1) for a in found.attention)


def test_int8_is_nearer_than_a_third_of_the_channels_without_training(found):
    near, far = found.answers[1:]
    assert near.kl.mean < far.kl.mean and near.agreement.mean > far.agreement.mean
    assert found.contests and all(c.rival == 2 and c.clear and c.share.mean > 0.8 for c in found.contests)
    assert {c.measure for c in found.contests} == {
        "KL of the answers", "Grad-CAM, cosine", "Grad-CAM, SSIM",
        *(f"attention {s}x{s}, mean left out" for s in (8, 4, 2)),
    }  # fmt: skip
    for match in found.aligned.matches:
        assert match.differences[0].low > 0 and match.cka[1].low > match.cka[2].high


def test_a_control_lies_where_nothing_is_shared(found):
    for one in found.attention:
        assert one.control.mean > 0.5 and abs(one.moved_control.mean) < 0.25


def test_places_are_the_last_layer_of_every_size_and_the_head(found):
    assert [m.place for m in found.aligned.matches] == ["8x8", "4x4", "2x2", "before the classifier", "logits"]
    assert found.aligned.matches[0].paths[0] == "features.stage1.0.relu"
    assert found.aligned.unmatched == ((), (), ())


def test_a_net_without_some_size_is_said_and_left_out():
    one, other = make(Residual), make(Branching)
    x, _ = data(24)
    seen = features.look([one, other], inputs, x)
    assert set(seen.ends[0]) == {(8, 8), (2, 2)} and set(seen.ends[1]) == {(6, 6)}
    aligned = features.align(seen)
    assert aligned.unmatched[1][:2] == ("8x8", "2x2") and aligned.matches[0].cka[1] is None
    logits = aligned.matches[-1]
    assert logits.place == "logits" and logits.cka[1] is not None
    attention, maps = features.attend(seen, 0)
    assert [a.cosine[1] for a in attention] == [None, None] and maps[0][1] is None


def test_at_most_so_many_layers_with_the_ends():
    found = features.watched(make(Residual), ["relu1"])
    assert found[-1] == "head" and "relu1" in found and len(found) <= features.MOST + 3


def test_contests_by_hand():
    """Of five images the first is nearer on three, further on one, level on one: 3.5 of 5."""
    gain = torch.tensor([0.1, 0.2, 0.3, -0.1, 0.0, math.nan])
    assert contests._tally(gain) == (3, 1, 1)
    assert contests._shares(gain).tolist()[:5] == [1, 1, 1, 0, 0.5] and contests._shares(gain)[5].isnan()
    assert contests.sign_test(3, 1) == pytest.approx(2 * 5 / 16)  # twice (4 + 1) of 16 outcomes
    assert contests.sign_test(0, 0) == 1


def test_answers_by_hand():
    """The original is wrong on the last two of four; the other repeats one of these answers."""
    original = torch.tensor([[5.0, 0, 0], [5.0, 0, 0], [0, 5.0, 0], [0, 5.0, 0]])
    other = torch.tensor([[5.0, 0, 0], [0, 0, 5.0], [0, 5.0, 0], [5.0, 0, 0]])
    _, own = answers.answers([original, other], torch.tensor([0, 0, 0, 0]))
    assert (own.mistakes, own.repeated, own.agreement.mean, own.right.mean) == (2, 1, 0.5, 0.5)
    entropies = [e.mean for e in own.entropies]
    assert entropies == sorted(entropies) and entropies[-1] < math.log(3)


def test_reliability_stands_on_the_diagonal_where_shares_hold(found):
    own = answers.Answers(**{**vars(found.answers[0]), "bins": (Bin(0.7, 0.9, 10, 0.8, 8),)})
    (dot,) = draw.dots(own, 0.5)
    assert (dot.x, dot.y) == (pytest.approx(60), pytest.approx(40))  # 0.3 of 0.5 from the left and from below
    assert dot.top < dot.y < dot.bottom <= 100


def test_a_heat_map_has_the_input_below():
    cells = draw.cells(((0.96, 0.5), (math.nan, 1.0)))
    assert [(c.x, c.y, c.text) for c in cells] == [(0, 10, ".96"), (0, 0, ".50"), (10, 10, "0"), (10, 0, "1")]


def test_a_bar_stays_within_its_picture():
    assert draw.bar(Estimate(0.9, 0.8, 1.2, 5)) == (80, 90, 100)
    assert draw.bar(Estimate(0.4, math.nan, math.nan, 1)) == (40, 40, 40)


def test_words_say_what_cannot_be_told(found):
    said = " ".join(found.sentences())
    assert "near is nearer to the original than far on this share of images" in said
    assert "Than far, near is more like it at 8x8" in said and "Every model here is one training" in said
    sure = answers.Answers(**{**vars(found.answers[0]), "ece": Estimate(0.2, 0.1, 0.3, 60), "chance": (0.03, 0.06)})
    from lessen.inspect.closeness.words import _holds

    assert _holds(sure).startswith(("is too sure", "is not sure enough"))
    assert "cannot be told from a calibrated model" in _holds(
        answers.Answers(**{**vars(sure), "ece": Estimate(0.05, 0.0, 0.1, 60)})
    )


def test_one_model_beside_the_original_has_no_contest(trained, digits):
    shown = [Shown("original", trained, "baseline"), Shown("same", trained, "baseline")]
    alone = close(beside(shown, digits, images=20), shown, digits, images=20)
    assert not alone.contests and "is nearer" not in " ".join(alone.sentences())
    assert 'id="nearer"' not in page.render_close(alone)
    assert alone.answers[1].kl.mean == 0 and alone.aligned.matches[-1].cka[1].mean == pytest.approx(1)


def test_the_page_has_every_picture_and_no_script(found, tmp_path):
    shown = write(found, tmp_path)
    html = shown.read_text(encoding="utf-8")
    assert shown.name == "close.html" and "<script" not in html and "http:" not in re.sub(r"data:[^\"]+", "", html)
    assert html.count("<svg") == 3 + 3  # reliability and CKA, model by model
    assert html.count("<rect") == sum(len(m) * len(m[0]) for m in found.aligned.matrices)
    assert html.count("<img") == 4 * 4 * (1 + len(found.attention))
    assert not re.search(r"nan|None|undefined", re.sub(r"data:[^\"]+", "", html))
    numbers = json.loads((tmp_path / "close.json").read_text(encoding="utf-8"))
    assert numbers["answers"][1]["kl"]["n"] == 60 and numbers["contests"][0]["measure"] == "KL of the answers"
    assert numbers["answers"][0]["bins"][0]["n"] == 6 and text(found).splitlines() == numbers["sentences"]


def test_the_command(baseline, trained, digits, tmp_path):
    from typer.testing import CliRunner

    from lessen.artifact import pack

    other, records = catalog.recipe("MagnitudePrune(sparsity=0.8)").apply(trained, digits)
    pack(other, digits, tmp_path / "sparse", recipe="MagnitudePrune(sparsity=0.8)", records=records)
    command = ["inspect", str(baseline.folder), "--beside", str(tmp_path / "sparse"), "--images", "20", "--close"]
    run = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "look")], catch_exceptions=False)
    assert run.exit_code == 0 and "sparse gives the original's answer on" in run.stdout
    assert {p.stem for p in (tmp_path / "look").iterdir()} == {"beside", "close"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--close"], "--close belongs to --beside"),
        (["--close", "--beside", "digits/cnn", "--images", "19"], "images = 19 must be at least 20"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_before_anything_runs(options, message, tmp_path):
    from typer.testing import CliRunner

    with pytest.raises(BadField, match=message):
        CliRunner().invoke(
            app, ["inspect", "digits/cnn", "-o", str(tmp_path / "x"), *options],
            standalone_mode=False, catch_exceptions=False,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())
