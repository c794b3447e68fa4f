"""Errors of quantized forms and outliers: the verbs, words by rule, the page, the command, and what bad input gets."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import unescape

import pytest
import torch
from nets import Branching, make
from torch import nn

from lessen import catalog
from lessen.cli import app
from lessen.core.errors import BadField, Refused
from lessen.inspect import Inside, Shown, causes, distributions, strips, tails, write
from lessen.inspect import errors as look
from lessen.inspect.stage_errors import Propagated, StageRow
from lessen.ops.bootstrap import Estimate
from lessen.ops.distortion import Distortion
from lessen.ops.propagation import Fit


@pytest.fixture(scope="module")
def int8(trained, digits, tmp_path_factory):
    from lessen.artifact import pack

    made, records = catalog.recipe("Int8()").apply(trained, digits)
    return pack(made, digits, tmp_path_factory.mktemp("made") / "int8", recipe="Int8()", records=records)


@pytest.fixture(scope="module")
def found(trained, int8, digits):
    four, _ = catalog.recipe("Int4()").apply(trained, digits)
    return look([Shown("original", trained), Shown.of(int8), Shown("int4", four)], digits, images=70)


@pytest.fixture(scope="module")
def seen(trained, digits):
    return distributions(trained, digits, images=70)


def test_the_first_stage_is_exact_before_and_the_last_is_the_answer(found):
    for one in found.found:
        assert one.rows[0].alone == one.rows[0].accumulated
        assert one.rows[-1].path == "head" and one.rows[-1].accumulated.sqnr_db == pytest.approx(one.output.sqnr_db)
        assert one.rows[-1].output == pytest.approx(one.rows[-1].alone)
        assert sum(row.share for row in one.rows) == pytest.approx(1)
        noise = sum(10 ** (-row.output.sqnr_db / 10) for row in one.rows)
        assert one.summed == pytest.approx(-10 * math.log10(noise))
        assert one.bottleneck.share == max(row.share for row in one.rows)
    eight, four = found.found
    assert four.output.sqnr_db < eight.output.sqnr_db - 10


def test_the_shipped_file_shows_the_same_errors(found):
    eight, four = found.found
    assert all(abs(row.file.sqnr_db - row.accumulated.sqnr_db) < 1 for row in eight.rows)
    assert any("the shipped file shows the same errors: at 13 of 13 stages" in text for text in eight.sentences())
    assert four.rows[0].file is None
    assert "int4: the shipped file's layers were not compared: there is no file." in four.notes


def test_a_file_of_another_model_is_not_taken_for_this_one(trained, int8, baseline, digits):
    strange = replace(Shown.of(int8), file=baseline.runnable[0])
    (one,) = look([Shown("original", trained), strange], digits, images=8).found
    assert one.rows[0].file is None and "packed by another version" in " ".join(one.notes)


def test_few_levels_are_the_reason_at_four_bits(found):
    four = found.found[1]
    row = four.bottleneck
    assert causes.part(row) == "weights" and row.fits["weights"].bits == 4
    assert "of its weights, and few levels: 4 bits" in " ".join(four.sentences())


def test_a_model_that_was_trained_after_is_told(trained, digits):
    made, _ = catalog.recipe("MagnitudePrune(sparsity=0.5) >> Int8()").apply(trained, digits)
    (one,) = look([Shown("original", trained), Shown("both", made)], digits, images=8).found
    assert any("are not the original's: it was trained, pruned or equalized" in note for note in one.notes)


def test_a_model_that_cannot_be_traced_is_looked_at_layer_by_layer(digits):
    from lessen.core.run import Run
    from lessen.ops import layers
    from lessen.ops.insertion import Plan, quantize

    net = make(Branching)
    net.head = nn.Linear(144, 10)
    made = quantize(digits.copy(layers.own(net)), digits, Run(), Plan("Int8", bits=8))
    (one,) = look([Shown("original", net), Shown("int8", made)], digits, images=8).found
    assert [row.path for row in one.rows] == ["one", "head"] and one.output.sqnr_db > 20
    assert [s.path for s in distributions(net, digits, images=8).activations] == ["one, input", "head, input"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("", "other holds no quantizer, so it makes no error; give its quantized form"),
        (
            "ChannelPrune(ratio=0.5) >> Int8()",
            "is not a quantized form of the original.*give as the first model the one",
        ),
        ("LowRank(keep=0.4, by='rank') >> Int8()", "is not a quantized form of the original: for 'features"),
    ],
)
def test_a_model_that_is_no_quantized_form_is_refused(trained, digits, recipe, message):
    model = catalog.recipe(recipe).apply(trained, digits)[0] if recipe else trained
    with pytest.raises(Refused, match=message):
        look([Shown("original", trained), Shown("other", model)], digits, images=4)


def test_bad_numbers(trained, digits):
    with pytest.raises(BadField, match="give 1 to 5 models"):
        look([Shown("original", trained)], digits)
    with pytest.raises(BadField, match="images = 1 must be at least 2"):
        distributions(trained, digits, images=1)
    with pytest.raises(Refused, match="no convolution or linear layer"):
        distributions(nn.Flatten(), digits, images=4)


def stage(path: str, alone: float, accumulated: float, share: float, **fits: Fit) -> StageRow:
    def of(decibel: float) -> Distortion:
        return Distortion(10 ** (-decibel / 10), 0.0, 0.0, decibel)

    return StageRow(path, (path,), of(alone), of(alone), of(alone + 20), of(accumulated), of(40.0), share, fits)


def propagated(*rows: StageRow, output: float = 30.0, summed: float = 30.0, mended: float = 33.0) -> Propagated:
    from lessen.analyze.ranks import Correlation

    nothing = Correlation(math.nan, 1.0, 0)
    told = Distortion(0.1, 0.1, 0.1, output)
    return Propagated("x", "", rows, told, 1.0, summed, mended, nothing, nothing, ())


FEW = Fit(4, 15, 0.0, 0.1, 0.9, 3.0, 20.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "few levels: 4 bits, 15 different integers"),
        ({"bits": 8}, "plain rounding to 8 bits: neither clipping (none of the values)"),
        ({"clipped": 0.002, "clip_noise": 0.7}, "clipping: 0.2 % of the values lie outside the range and make 70 %"),
        (
            {"used": 0.3, "kurtosis": 40.0},
            "outliers: the middle 99.9 % of the values use 30 % of the range (kurtosis 40.0",
        ),
    ],
)
def test_reasons_follow_from_numbers(change, word):
    one = propagated(stage("a", 20, 20, 0.9, weights=FEW._replace(**change)), stage("b", 30, 20, 0.1))
    said = " ".join(causes.sentences(one))
    assert word in said and "99 % of its own noise is of its weights" in said


def test_words_of_errors():
    rows = stage("a", 40, 40, 0.2), stage("b", 40, 36, 0.2), stage("c", 40, 28, 0.2), stage("d", 41, 27, 0.4)
    said = " ".join(causes.sentences(propagated(*rows)))
    assert "no stage is a clear bottleneck; first is d with 40 % of the noise at the answer" in said
    assert "its own SQNR is better than the median stage's (40.0 dB)" in said
    assert "it falls most from b to c, by 8.0 dB" in said and "is lowest at d, 27.0 dB" in said
    assert "errors add up as if independent" in said
    assert "partly cancel" in " ".join(causes.sentences(propagated(*rows, summed=25.0)))
    assert "make each other worse" in " ".join(causes.sentences(propagated(*rows, summed=35.0)))
    assert "no more: its error partly cancels" in " ".join(causes.sentences(propagated(*rows, mended=29.0)))


def test_distributions_of_a_net(seen, trained):
    weights = {s.path: s for s in seen.weights}
    head = weights["head"]
    assert head.count == trained.head.weight.numel() and len(head.channels.top) == 10
    assert head.channels.top == pytest.approx(trained.head.weight.detach().abs().amax(1).tolist())
    stem = next(s for s in seen.activations if s.path.endswith("stem.act"))
    assert stem.shapes["plain"].box[0] == 0 and stem.count == 70 * 8 * 8 * len(stem.channels.top)
    assert 0 < stem.steady <= 1 and stem.holders <= 1 and stem.shapes["clipped"].box[-1] < stem.shapes["plain"].box[-1]
    assert len(seen.curves) == 7 and all(c.after[0] > c.before[0] and c.zeros > 0.1 for c in seen.curves)
    assert [n.channels for n in seen.norms][:2] == [8, 8] and len(seen.norms) == 9
    assert seen.output.n == 9 and seen.output.low <= seen.output.mean <= seen.output.high


def test_an_outlier_channel_is_found_and_said(trained, digits):
    """One stem channel scaled fifty times behind its norm: it holds every image's maximum."""
    model = digits.copy(trained)
    model.features.stem.norm.weight.data[3] *= 50
    found = distributions(model, digits, images=60)
    stem = next(s for s in found.activations if s.path.endswith("stem.act"))
    assert stem.most == 3 and stem.steady == 1 and stem.reaching == pytest.approx(1 / 8) and stem.kurtosis > 20
    assert found.norms[0].spread > 10
    said = " ".join(found.sentences())
    assert "channel 3 of features.stem.act: of 100 %" in said


def test_a_vision_transformer(digits):
    with digits.seeded(0):
        model = digits.build("vit(patch=2, depth=1, dim=16, heads=2)")
    found = distributions(model, digits, images=20)
    paths = [s.path for s in found.activations]
    assert "encoders.0.norm1" in paths and "encoders.0.mlp.1" in paths and not found.norms
    assert [c.kind for c in found.curves] == ["GELU"]
    token = next(s for s in found.activations if s.path == "encoders.0.norm1")
    assert len(token.channels.top) == 16
    made, _ = catalog.recipe("Int8()").apply(model, digits)
    (one,) = look([Shown("original", model), Shown("int8", made)], digits, images=20).found
    assert {"encoders.0.attention.q", "encoders.0.norm1", "head"} <= {row.path for row in one.rows}


def test_words_of_ties():
    assert tails.tie(Estimate(0.4, 0.2, 0.6, 9), "they", "the largest") == "they tend to hold the largest"
    assert "no more often than others" in tails.tie(Estimate(0.1, -0.2, 0.6, 9), "they", "the largest")
    assert "the smaller of" in tails.tie(Estimate(-0.4, -0.6, -0.2, 9), "they", "the largest")
    assert "cannot be said" in tails.tie(Estimate(math.nan, math.nan, math.nan, 0), "they", "the largest")
    assert tails.rho(Estimate(0.4, math.nan, math.nan, 1)) == "+0.40"


def test_heavy_tails_are_said(seen):
    heavy = replace(seen.activations[0], kurtosis=9.0, ratio=3.0, reaching=0.05)
    said = list(tails.about(replace(seen, activations=(heavy, *seen.activations[1:])), "activations"))
    assert said[0].startswith("1 of 14 tensors of activations have outliers")
    assert said[1].startswith("In 1 of 14 tensors of activations at most 10 % of the channels reach half the maximum")
    plain = list(tails.about(seen, "activations"))
    assert plain[0].startswith("No tensor of activations has outliers, of 14")


def test_the_axis_of_errors():
    one = propagated(stage("a", 47, 21, 0.5), stage("b", math.inf, 33, 0.5))
    scale = strips.Scale.of(one)
    assert scale == (20, 50) and scale.ticks() == [20, 30, 40, 50] and scale.at(35) == 50
    assert strips.dots(one, "alone", scale) == "M90.00 0.5h0" and strips.depth(one, "alone", scale) == ""
    assert strips.depth(one, "accumulated", scale) == "M3.33 0.5L43.33 1.5"


def test_a_cloud_fills_its_square():
    assert strips.cloud([1, 3, 2], [0, 5, 0]) == "M0.0 100.0h0M100.0 0.0h0M50.0 100.0h0"


def test_the_page_and_the_numbers(found, seen, tmp_path):
    both = Inside("resnet8(width=0.5)", "digits", found, seen)
    path = write(both, tmp_path)
    assert path.name == "inside.html"
    html = path.read_text(encoding="utf-8")
    assert "<script" not in html and not re.search(r'(?:src|href)\s*=\s*"?https?:', html)
    assert "default-src 'none'" in unescape(html) and html.count('class="depths"') == 2
    text = unescape(html)
    for sentence in both.sentences():
        said = re.sub(r"^(int8|int4): ", "", sentence).replace(" -> ", " → ")
        assert said[1:] in text
    numbers = json.loads((tmp_path / "inside.json").read_text(encoding="utf-8"))
    row = numbers["errors"]["models"][0]["rows"][0]
    assert row["alone"]["sqnr_db"] == found.found[0].rows[0].alone.sqnr_db and row["fits"]["weights"]["bits"] == 8
    assert numbers["errors"]["models"][0]["bottleneck"] == found.found[0].bottleneck.path
    assert numbers["distributions"]["norms"][0]["output"]["rho"] == seen.norms[0].output.rho
    assert numbers["distributions"]["activations"][0]["sqnr"]["4"].keys() == {"plain", "clipped", "log"}
    for alone in (Inside("m", "t", found), Inside("m", "t", None, seen)):
        assert write(alone, tmp_path / "one").read_text(encoding="utf-8").count("<section") >= 3


def test_user_text_cannot_leave_its_place(found, seen):
    from lessen.inspect.page import render_inside

    evil = "<script>alert(1)</script>"
    one = replace(found.found[0], name=evil, rows=tuple(replace(r, path=evil) for r in found.found[0].rows))
    weights = tuple(replace(s, path=evil, kind=evil) for s in seen.weights)
    harmed = Inside(evil, evil, replace(found, found=(one,)), replace(seen, weights=weights))
    assert evil not in render_inside(harmed)


def test_models_stay_as_they_are(trained, int8, digits):
    model = int8.model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    look([Shown("original", trained), Shown("int8", model)], digits, images=4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in trained.parameters())


def test_the_command(baseline, int8, tmp_path):
    from typer.testing import CliRunner

    command = ["inspect", str(baseline.folder), "--beside", str(int8.folder), "--errors", "--distributions"]
    run = CliRunner().invoke(app, [*command, "--images", "20", "-o", str(tmp_path / "look")], catch_exceptions=False)
    assert run.exit_code == 0 and "int8: the answers keep an SQNR of" in run.stdout
    assert {p.name for p in (tmp_path / "look").iterdir()} == {
        "inside.html", "inside.json", "beside.html", "beside.json",
    }  # fmt: skip
    alone = ["inspect", str(baseline.folder), "--distributions", "--images", "20", "--json", "-o", str(tmp_path / "x")]
    run = CliRunner().invoke(app, alone, catch_exceptions=False)
    assert set(json.loads(run.stdout)) == {"model", "task", "distributions"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--errors"], "--errors belongs to --beside, which names the quantized form"),
        (["--distributions", "--images", "1"], "images = 1 must be at least 2"),
        (["--distributions", "--at", "conv1"], "--at belongs to --beside"),
        (["--distributions", "--quick"], "--quick belongs to --sensitivity"),
        ([], "--distributions to see outliers"),
    ],
)
def test_a_request_that_makes_no_sense(options, message, tmp_path):
    from typer.testing import CliRunner

    with pytest.raises(BadField, match=message):
        CliRunner().invoke(
            app, ["inspect", "digits/cnn", "-o", str(tmp_path / "x"), *options],
            standalone_mode=False, catch_exceptions=False,
        )  # fmt: skip
