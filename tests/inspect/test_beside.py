"""Models side by side: layers matched by path, numbers by hand, words by rule, the page, and what bad input gets."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import torch
from nets import Residual, data, inputs, make
from torch import nn

from lessen import catalog
from lessen.cli import app
from lessen.core.errors import BadData, BadField, Refused
from lessen.inspect import Shown, attention, beside, drawings, page, remarks, side_by_side, text, weights, write
from lessen.inspect.subjects import positions, private
from lessen.ops import layers
from lessen.ops.bootstrap import Estimate

RECIPES = {
    "sparse": "MagnitudePrune(sparsity=0.8) >> Int8()", "narrow": "ChannelPrune(ratio=0.5)",
    "factored": "LowRank(keep=0.4, by='rank')",
}  # fmt: skip


@pytest.fixture(scope="module")
def models(trained, digits):
    made = {name: catalog.recipe(text).apply(trained, digits)[0] for name, text in RECIPES.items()}
    return [Shown("original", trained, "baseline"), *(Shown(name, made[name], RECIPES[name]) for name in made)]


@pytest.fixture(scope="module")
def found(models, digits):
    return beside(models, digits, images=60)


def pair(before: list, after: list, mask: list | None = None, bits: int = 0) -> weights.Comparison:
    """One linear layer with these weights in both models."""
    nets = []
    for values in (before, after):
        net = nn.Sequential(layers.Linear(len(values[0]), len(values), bias=False))
        net[0].weight.data = torch.tensor(values)
        nets.append(net)
    if mask is not None:
        nets[1][0].set_mask(torch.tensor(mask))
    if bits:
        nets[1][0].wq = layers.WeightQuantizer.fitting(nets[1][0], bits)
    return weights.compare(nets)


def test_a_layer_by_hand():
    """Of -3, -1, 1, 3 the standard deviation is sqrt(5), so 1 and -1 are near zero and a mask takes them."""
    (row,) = pair([[-3.0, -1.0, 1.0, 3.0]], [[-3.0, -1.0, 1.0, 3.0]], [[True, False, False, True]]).rows
    before, after = row.held
    assert (before.sd, before.near, before.zeros) == (pytest.approx(math.sqrt(5)), 0.5, 0)
    assert (after.sd, after.near, after.zeros, after.weights) == (3, 0, 2, 4)
    assert (row.edges[0], row.edges[-1], len(row.edges)) == (-3, 3, 13)
    assert before.counts == (1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1) and after.counts == (1, *[0] * 10, 1)


def test_what_is_drawn_are_integer_levels():
    """Three bits of a channel up to 3 have scale 1: -3, -2 ... 3, and what rounds to zero is a zero."""
    (row,) = pair([[3.0, -1.2, 1.9, 0.4]], [[3.0, -1.2, 1.9, 0.4]], bits=3).rows
    after = row.held[1]
    assert after.bits == 3 and after.zeros == 1
    drawn = [row.edges[i] for i, n in enumerate(after.counts) if n]
    assert len(drawn) == 3 and all(low <= v <= low + 0.36 for low, v in zip(drawn, (-1, 2, 3), strict=True))


def test_layers_are_matched_by_path(found):
    rows = found.weights.rows
    assert all(row.held[0] and row.held[1] and row.held[2] and row.held[3] for row in rows)
    stem = next(row for row in rows if row.path.endswith("stem.conv"))
    assert stem.held[2].channels < stem.held[0].channels and stem.held[1].bits == 8
    factored = [row.held[3] for row in rows if row.held[3].rank]
    assert factored and all(sum(h.counts) <= h.channels * h.inputs * 9 for h in factored)
    assert found.weights.totals(1)[1] / found.weights.totals(1)[0] == pytest.approx(0.8, abs=0.01)
    assert any("narrow: " in note and "are narrowed" in note for note in found.notes)
    assert any("two low-rank factors, drawn as their product" in note for note in found.notes)


def test_the_product_of_two_factors_is_drawn(trained, digits):
    whole, _ = catalog.recipe("LowRank(keep=0.4, by='rank')").apply(trained, digits)
    placed = weights._places(private(whole, digits))
    path, target = next((p, t) for p, t in placed.items() if t.second is not None)
    first, second = whole.get_submodule(path)[0].weight, whole.get_submodule(path)[1].weight
    product = second.flatten(1) @ first.flatten(1)
    assert torch.allclose(weights._values(target).float(), product, atol=1e-6)
    assert f"{path}.0" not in placed


def test_what_has_no_counterpart_is_said():
    nets = [nn.ModuleDict({name: layers.Linear(2, 2) for name in names}) for names in ("ab", "bc")]
    found = weights.compare(nets)
    assert (found.missing(1), found.extra[1], found.rows[0].held[1]) == (("a",), ("c",), None)
    assert weights.notes(("original", "other"), found) == [
        "other has no counterpart of a.", "other has layers that the original has not: c.",
    ]  # fmt: skip


def test_sparsity_by_kind(found):
    kinds = found.weights.kinds()
    assert set(kinds) == {"Conv2d", "Conv2d 1x1", "Linear"} and kinds["Conv2d"][0] == 0
    rows = [row.held[1] for row in found.weights.rows if row.kind == "Conv2d 1x1"]
    assert kinds["Conv2d 1x1"][1] == pytest.approx(sum(h.zeros for h in rows) / sum(h.weights for h in rows))


def test_the_original_is_like_itself_and_nothing_else_is_as_like(found):
    own, *others = found.views.likeness
    assert (own.cosine.mean, own.ssim.mean, own.agreement.mean) == pytest.approx((1, 1, 1)) and own.kl.mean == 0
    for like in others:
        assert found.views.control["cosine"].mean < like.cosine.mean < 1 and like.ssim.mean < 1
        assert 0 < like.js.mean <= math.log(2) and like.layer == own.layer == "features.stage1.0.relu"
        assert like.agreement.low < like.agreement.mean <= like.agreement.high
    kept = np.array(found.views.values["class"])
    assert others[0].agreement.mean == pytest.approx(float((kept[1] == kept[0]).mean()))
    assert found.views.images == kept.shape[1] == 60


def test_pictures_by_chance_and_where_maps_differ_are_told_apart(found):
    chance, differs = ([p for p in found.views.pictures if p.chosen == c] for c in ("chance", "differs"))
    assert len(chance) == len(differs) == 6
    assert not {p.index for p in chance} & {p.index for p in differs}
    shown = [p.cosine[k] for p in found.views.pictures for k in (1, 2, 3)]
    assert np.nanmin(shown) == pytest.approx(
        np.nanmin(found.views.values["cosine"][1:])
    )  # an all-zero map is like none


def test_the_seed_decides_everything(models, digits, found):
    again, other = beside(models[:2], digits, images=60), beside(models[:2], digits, images=60, seed=1)
    np.testing.assert_equal(again.views.values["cosine"], found.views.values["cosine"][:2])
    assert again.views.index != other.views.index


def test_models_stay_as_they_are(models, digits):
    before = {k: v.clone() for k, v in models[1].model.state_dict().items()}
    beside(models[:2], digits, images=4)
    after = models[1].model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert all(p.requires_grad and p.grad is None for p in models[0].model.parameters())


def test_all_zero_maps_are_counted_and_left_out():
    """A head that is zero for class 0 gives no gradient: its maps are blank."""
    model, other = make(Residual), make(Residual, 1)
    for net in (model, other):
        net.head.weight.data[0], net.head.bias.data[:] = 0.0, torch.tensor([100.0, 0.0, 0.0, 0.0])
    x, y = data(12)
    other.head.weight.data[0] = 1.0
    found = attention.views([model, other], ["a", "b"], inputs, x, y, range(12))
    assert found.likeness[0].blank == 12 and found.likeness[1].cosine.n == 0
    assert "a: 12 of 12 maps are all zero (100 %); similarities leave them out." in attention.blanks(["a", "b"], found)
    assert not [p for p in found.pictures if p.chosen == "differs"]


def test_the_control_never_meets_its_own_image():
    maps = torch.eye(16).reshape(16, 4, 4)
    for seed in range(20):
        assert attention._control(maps, torch.zeros(16, dtype=torch.bool), seed)["cosine"].mean == 0


def test_a_model_without_the_layer_takes_its_own_deepest(trained, digits):
    with digits.seeded(1):
        other = digits.build("cnn(width=0.5)")
    found = beside([Shown("original", trained), Shown("student", other)], digits, images=10)
    assert [like.layer for like in found.views.likeness] == ["features.stage1.0.relu", "features.conv1_1.act"]
    said = " ".join(found.sentences())
    assert "student has no layer features.stage1.0.relu with a map of 8x8 or more" in said
    assert "student has no counterpart of features.stem.conv" in said


def test_vision_transformers_have_their_patches_or_none(digits):
    with digits.seeded(0):
        fine, coarse = (digits.build(f"vit(patch={p}, depth=1, dim=16, heads=2)") for p in (1, 2))
    found = beside([Shown("original", fine), Shown("other", fine)], digits, images=6)
    assert found.views.likeness[0].layer == "patches"
    assert any("before all attention" in note for note in found.views.notes)
    found = beside([Shown("original", coarse), Shown("other", coarse)], digits, images=6)
    assert found.views is None and "its largest is patches, 4x4" in found.unseen
    assert "No Grad-CAM" in text(found) and "No Grad-CAM" in page.render_beside(found)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"at": "features.stage3.0.relu"}, Refused, "gives a map of 2x2, too coarse for Grad-CAM, which needs 8x8"),
        ({"at": "features.stage9"}, Refused, "'features.stage9' is no layer of original that gives maps; take one of:"),
        ({"at": "head"}, Refused, "features.stage1.0.relu 8x8"),
        ({"images": 1}, BadField, "must be at least 2"),
        ({"shown": 1}, BadField, "0 models beside the original; give 1 to 5"),
        ({"shown": 0}, BadField, "give 1 to 5"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_with_the_mend(models, digits, changes, error, message):
    shown = models[: changes.pop("shown", 2)]
    with pytest.raises(error, match=re.escape(message)):
        beside(shown, digits, **{"images": 4, **changes})


def test_models_of_another_task_and_a_task_without_validation(trained, digits):
    from lessen import models as zoo
    from lessen.tasks import task

    strange = zoo.build("cnn(width=0.25)", shape=(1, 8, 8), classes=7)
    with pytest.raises(Refused, match=r"other does not answer digits.*\(1, 7\).*one task"):
        beside([Shown("original", trained), Shown("other", strange)], digits)
    rgb = zoo.build("cnn(width=0.25)", shape=(3, 8, 8), classes=10)
    with pytest.raises(Refused, match="other does not answer"):
        beside([Shown("original", trained), Shown("other", rgb)], digits)
    with pytest.raises(BadData, match="no validation images"):
        beside([Shown("original", trained), Shown("other", trained)], task("digits(final=True)"))


def test_equal_names_and_strange_data_are_told(trained, digits):
    found = beside([Shown("original", trained), *(Shown("x", trained, "", "elsewhere") for _ in range(2))], digits)
    assert found.names == ("original", "x", "x (2)")
    assert "x (2) was made on other data or another split; it may have seen these images." in found.notes


def spoken(before, after, **more) -> list[str]:
    found = pair(before, after, **more)
    return remarks.weights(side_by_side.Beside("m", "t", (), ("o", "x"), ("", ""), found, None, "", ()))


def test_words_follow_from_numbers():
    values = [[-3.0, -1.0, 1.0, 3.0]]
    cut = spoken(values, values, mask=[[True, False, False, True]])
    assert cut[0] == "x: zeros 0.0 % -> 50.0 % of the weights (most in 0, 50.0 %; least in 0, 50.0 %)."
    assert cut[1].startswith("x: the middle of the histograms is gone (within half the original's standard deviation")
    assert "lie 50 % of the original's non-zero weights and 0 % of its own)" in cut[1]
    assert cut[1].endswith("the standard deviation changes most in 0, 2.24 -> 3 (1.3x).")
    same = spoken(values, values)
    assert same[0] == "x: no zeros." and "keep their middle" in same[1] and "stays within 10 %" in same[1]
    assert "crowd closer" in spoken(values, [[-1.0, -1.0, 1.0, 3.0]])[1]
    assert "channels 1 -> 2" in spoken(values, values * 2)[0]
    assert "weights of 4 (15 levels a channel) bits" in spoken(values, values, bits=4)[0]
    assert "no weight that is not zero is left" in spoken(values, [[0.0] * 4])[1]


@pytest.mark.parametrize(
    ("mean", "low", "verdict"),
    [
        (0.9, 0.88, "looks where the original looks"),
        (0.7, 0.68, "looks partly where the original looks"),
        (0.5, 0.48, "looks mostly elsewhere than where the original looks"),
        (0.43, 0.4, "looks no more where the original looks than at another image"),
        (math.nan, math.nan, "cannot be judged by its maps"),
    ],
)
def test_a_verdict_is_measured_from_the_control(mean, low, verdict):
    assert remarks._verdict(Estimate(mean, low, 1, 9), Estimate(0.4, 0.38, 0.42, 9)) == verdict


def test_a_histogram_is_drawn_to_one_scale():
    (row,) = pair([[-2.0, -1.0, 1.0, 2.0]], [[-2.0, 2.0, 2.0, 2.0]]).rows
    before, after = drawings.histogram(row, 0), drawings.histogram(row, 1)
    assert before.startswith("M0 40V27.20H1 ") and after.endswith(" V1.60H12V40")  # a third as high, and the highest
    assert drawings.zero(row) == 6


def test_an_overlay_is_brightest_where_the_map_is():
    import base64
    import io

    from PIL import Image

    heat = np.zeros((8, 8))
    heat[:4] = 1
    encoded = drawings.overlay(np.zeros((1, 8, 8), np.uint8), heat).partition(",")[2]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    assert pixels.shape == (112, 112, 3) and pixels[10].mean() > 100 and pixels[-10].max() == 0


def test_files_hold_all_numbers_and_the_page_needs_no_network_and_no_script(found, tmp_path):
    path = write(found, tmp_path / "out")
    assert path.name == "beside.html"
    numbers = json.loads((tmp_path / "out/beside.json").read_text(encoding="utf-8"))
    assert numbers["weights"]["rows"][0]["held"][1]["zeros"] == found.weights.rows[0].held[1].zeros
    assert numbers["views"]["likeness"][1]["cosine"]["mean"] == found.views.likeness[1].cosine.mean
    assert len(numbers["views"]["values"]["ssim"][2]) == 60 and numbers["sentences"] == found.sentences()
    html = path.read_text(encoding="utf-8")
    assert "<script" not in html and not re.search(r'(?:src|href)\s*=\s*"?https?:', html)
    assert "default-src 'none'" in unescape(html)
    assert html.count("<img ") == 12 * 5
    assert all(sentence.replace(" -> ", " → ") in unescape(html) for sentence in found.sentences())


def test_user_text_cannot_leave_its_place(found):
    evil = "<script>alert(1)</script>"
    row = replace(found.weights.rows[0], path=evil, kind=evil)
    harmed = replace(found, names=(evil,) * 4, about=(evil,) * 4, classes=(evil,) * 10, model=evil, task=evil,
                     weights=replace(found.weights, rows=(row, *found.weights.rows[1:])))  # fmt: skip
    assert evil not in page.render_beside(harmed)


def test_positions_are_of_every_class_and_all_when_fewer_are_there(digits):
    y = digits.split("validation").y.numpy()
    some = positions(digits, 20, 0, "beside")
    assert len(some) == 20 and set(np.bincount(y[some])) == {2}
    assert len(positions(digits, 10_000, 0, "beside")) == len(y)


def test_the_command(baseline, trained, digits, tmp_path):
    from typer.testing import CliRunner

    from lessen.artifact import pack

    other, records = catalog.recipe("MagnitudePrune(sparsity=0.8)").apply(trained, digits)
    pack(other, digits, tmp_path / "sparse", recipe="MagnitudePrune(sparsity=0.8)", records=records)
    command = ["inspect", str(baseline.folder), "--beside", str(tmp_path / "sparse"), "--images", "20"]
    run = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "look")], catch_exceptions=False)
    assert run.exit_code == 0 and "sparse: zeros 0.0 % -> 80.0 % of the weights" in run.stdout
    assert (tmp_path / "look/beside.html").is_file() and not (tmp_path / "look/sensitivity.html").exists()
    both = [*command, "-o", str(tmp_path / "both"), "--sensitivity", "prune", "--quick", "--json"]
    run = CliRunner().invoke(app, both, catch_exceptions=False)
    shown = json.loads(run.stdout)
    assert set(shown) == {"sensitivity", "beside"} and shown["beside"]["names"] == ["original", "sparse"]
    assert {p.name for p in (tmp_path / "both").iterdir()} == {
        "beside.html", "beside.json", "sensitivity.html", "sensitivity.json",
    }  # fmt: skip


def test_a_long_name_of_a_studys_folder_gives_way_to_its_techniques(baseline, tmp_path):
    from lessen.artifact import load

    short, long = tmp_path / "mine", tmp_path / "magnitudeprune-sparsity-0.9-ab12cd-0"
    for folder in (short, long):
        shutil.copytree(baseline.folder, folder)
    assert [Shown.of(load(f)).name for f in (short, long)] == ["mine", "baseline"]
    assert Shown.of(baseline, "digits/cnn").name == "cnn"


def test_another_seed_of_the_original_answers_how_far_seeds_lie_apart(models, digits):
    for about, told in (("baseline", False), ("Int8()", True)):
        shown = [models[0], Shown("b", models[1].model, about)]
        said = " ".join(beside(shown, digits, images=8).sentences())
        assert ("is not known here" in said) is told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], r"--sensitivity .*--beside"),
        (["--beside", "digits/cnn", "--quick"], "--quick belongs to --sensitivity"),
        (["--beside", "digits/cnn", "--goal", "weights_removed=0.7"], "--goal belongs to --sensitivity"),
        (["--sensitivity", "prune", "--at", "conv1"], "--at belongs to --beside"),
        (["--sensitivity", "prune", "--images", "9"], "--images belongs to --beside"),
        (["--beside", "digits/cnn", "--images", "1"], "images = 1 must be at least 2"),
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
