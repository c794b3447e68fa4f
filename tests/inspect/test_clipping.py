"""The scans of clipping: ranges by hand, outputs where a quantizer would stand, and what depth says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from nets import Branching, Residual, data, inputs, make
from torch import nn

from lessen.core.errors import BadField, UnknownName
from lessen.inspect import clipping, figures, findings, sensitivity, text, write
from lessen.inspect.scan import scan
from lessen.inspect.sites import edited, sites
from lessen.ops import calibration, layers


@pytest.fixture(scope="module")
def found(trained, digits):
    return sensitivity(trained, digits, ("clipping",))


def test_rows_of_weights_are_clipped_by_hand() -> None:
    layer = layers.Linear(100, 2, bias=False)
    with torch.no_grad():
        layer.weight[0] = torch.arange(-50.0, 50.0)
        layer.weight[1] = 0.0
    found = clipping.clipped(layer, 0.05)
    assert (
        found[0].tolist() == torch.arange(-50.0, 50.0).clamp(-47, 47).tolist()
    )  # five lie outside: -50, 49, -49, 48, -48
    assert torch.equal(clipping.clipped(layer, 0.001), layer.weight) and not found[1].any()


def test_outputs_are_clipped_behind_norm_and_relu_and_put_back() -> None:
    model, (x, _) = make(Residual), data(64)
    places, notes = sites(model, "clip_outputs", inputs(x))
    assert [(s.paths, s.touched) for s in places] == [
        (("stem",), ("relu1",)), (("one",), ("relu2",)), (("two",), ("norm",)),
    ]  # fmt: skip
    assert notes == ["left out, no range stands on what they give: head"]
    before, seen = model(inputs(x)), []
    low, high = calibration.spans(model, inputs(x), outputs=["norm"], share=0.95)[0]["norm"]
    with edited(places[2].edits(0.05)):
        handle = model.norm.register_forward_hook(lambda _m, _i, y: seen.append(y))
        changed = model(inputs(x))
    handle.remove()
    assert (seen[0].min(), seen[0].max()) == (low, high) and not torch.equal(changed, before)
    assert model.norm.oq is None and torch.equal(model(inputs(x)), before)


@pytest.mark.parametrize("kind", ["clip_weights", "clip_outputs"])
def test_a_replay_answers_as_whole_passes_do(kind: str) -> None:
    model, (x, y) = make(Residual), data(80)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    places, _ = sites(model, kind, inputs(x))
    quick, whole = (scan(model, inputs, x, y, places, [0.05, 0.3], cached=c) for c in (True, False))
    assert quick.problem == "" and np.array_equal(quick.changed, whole.changed)
    assert (whole.changed != whole.dense).any(), "a third of all values must turn an answer"


def test_quantized_outputs_stay_quantized_behind_the_clamp() -> None:
    model, (x, _) = make(Residual), data(64)
    model.relu1.oq = layers.ActivationQuantizer.covering(torch.tensor(0.0), torch.tensor(3.0), bits=4)
    place = sites(model, "clip_outputs", inputs(x))[0][0]
    with edited(place.edits(0.05)):
        seen = model.relu1(torch.linspace(0, 3, 999))
    assert len(seen.unique()) <= 16 and type(model.relu1.oq) is layers.ActivationQuantizer


def test_a_model_that_cannot_be_traced_has_no_outputs_to_clip(digits) -> None:
    model, (x, _) = make(Branching), data(8)
    assert len(sites(model, "clip_weights", inputs(x))[0]) == 2
    with pytest.raises(Exception, match="finds nothing to change"):
        sites(model, "clip_outputs", inputs(x))


def test_scores_are_those_of_the_clipped_model(found, trained, digits) -> None:
    weights, outputs = found.scans
    assert (weights.kind, outputs.kind, len(weights.rows), len(outputs.rows)) == ("clip_weights", "clip_outputs", 10, 9)
    assert weights.ratios == outputs.ratios == (0.001, 0.005, 0.01, 0.02, 0.05)
    model = layers.own(digits.copy(trained)).eval()
    layer = layers.weighted(model)["head"]
    layer.weight = nn.Parameter(clipping.clipped(layer, 0.05))
    assert weights.rows[-1].scores[-1] == pytest.approx(digits.evaluate(model, "validation"))
    span = calibration.spans(model, calibration.samples(digits), outputs=["features.stem.act"], share=0.98)[0]
    model = layers.own(digits.copy(trained)).eval()
    model.features.stem.act.oq = clipping.Clipped(*span["features.stem.act"], None)
    assert outputs.rows[0].scores[3] == pytest.approx(digits.evaluate(model, "validation"))


def planted(drops: list[int], kind: str = "clip_outputs"):
    """A scan of 40 images in which row i loses so many at every coverage."""
    right = np.array([[np.arange(40) >= d] * 2 for d in drops])
    paths = [(f"l{i}",) for i in range(len(drops))]
    return findings.build(kind, (0.01, 0.05), paths, [5] * len(drops), 50, np.ones(40, bool), right, [])


@pytest.mark.parametrize(
    ("drops", "said"),
    [
        ([9, 8, 7, 6, 5, 3, 2, 1], "Deeper layers are steadier under clipping: Spearman of depth with the drop -1.00"),
        ([1, 2, 3, 4, 5, 6, 7, 9], "Deeper layers are less steady under clipping: Spearman of depth with the drop +1"),
        ([3, 9, 1, 8, 2, 9, 1, 7], "Whether deeper layers are steadier under clipping is not clear: Spearman"),
        ([4, 4, 4, 4, 4, 4], "Whether deeper layers are steadier under clipping cannot be said"),
        ([4, 3, 2], "Whether deeper layers are steadier under clipping cannot be said"),
    ],
)
def test_depth_in_words(drops: list[int], said: str) -> None:
    found = findings.sentences(planted(drops))
    assert found[1].startswith(said)
    assert "n = " in found[1] or "cannot" in found[1]


def test_words_pictures_and_page(found, tmp_path) -> None:
    said = text(found)
    assert "a coverage of 9" in said and "clip_weights and clip_outputs rank the layers alike" in said
    curves, heat = figures.curves(found.scans[1]), figures.heatmap(found.scans[1])
    assert curves["layout"]["xaxis"]["ticktext"] == ["dense", "99.9", "99.5", "99", "98", "95"]
    assert curves["layout"]["xaxis"]["title"]["text"] == "values within the range, %"
    assert heat["data"][0]["x"] == ["99.9", "99.5", "99", "98", "95"]
    assert "coverage in % %{x}: %{text} points" in heat["data"][0]["hovertemplate"]
    html = write(found, tmp_path).read_text(encoding="utf-8")
    assert 'id="clip_weights"' in html and "Outputs clipped" in html and "keeps 95 % down to" in html
    numbers = json.loads((tmp_path / "sensitivity.json").read_text(encoding="utf-8"))
    assert [s["kind"] for s in numbers["scans"]] == ["clip_weights", "clip_outputs"] and not numbers["proposals"]


def test_quick_and_asking_twice(trained, digits) -> None:
    found = sensitivity(trained, digits, ("clip_outputs", "clipping"), quick=True)
    assert [s.kind for s in found.scans] == ["clip_outputs", "clip_weights"]
    assert found.scans[0].ratios == (0.001, 0.01, 0.05)


def test_a_goal_needs_a_scan_that_removes_something(trained, digits) -> None:
    with pytest.raises(BadField, match="needs a scan of what can go, and clipping removes nothing; add prune or bits"):
        sensitivity(trained, digits, ("clipping",), goals=("bytes_kept=0.5",))
    with pytest.raises(UnknownName, match="did you mean 'clipping'"):
        sensitivity(trained, digits, ("cliping",))
