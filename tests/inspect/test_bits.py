"""The scan of bits: each layer alone, what foretells it, and the proposal for bytes."""

from __future__ import annotations

import json
import re

import pytest
import torch

from lessen import catalog
from lessen.core.errors import BadField
from lessen.inspect import bits, figures, sensitivity, text, write
from lessen.ops import layers


@pytest.fixture(scope="module")
def found(trained, digits):
    return sensitivity(trained, digits, ("prune", "bits"), goals=("bytes_kept=0.3",))


def test_every_layer_alone_at_every_number_of_bits(found, trained, digits):
    scan = found.scans[1]
    assert [bits.bits(r) for r in scan.ratios] == [8, 4, 3, 2] and len(scan.rows) == 10
    assert scan.ratios == tuple(1 - b / 32 for b in (8, 4, 3, 2))
    model = layers.own(digits.copy(trained))
    layer = layers.weighted(model)["head"]
    layer.wq = layers.WeightQuantizer.fitting(layer, 2, rule="mse")
    assert scan.rows[-1].scores[-1] == pytest.approx(digits.evaluate(model, "validation"))


def test_proposal_is_the_recipe_with_these_bits(found, trained, digits):
    p = found.proposals[1]
    assert p.kind == "bits" and p.reached.startswith("bytes_kept=0.")
    assert float(p.reached.partition("=")[2]) <= 0.3
    _, record = catalog.recipe(p.recipe).apply(trained, digits)
    assert record[-1].score == pytest.approx(p.score)
    assert dict(p.layers) == {path: b for path, b in record[-1].details["bits"].items() if b < 32}
    assert 3 not in dict(p.layers).values(), "three bits are stored in four, which lose no more"
    assert record[-1].after.weight_bits <= 0.3 * record[-1].before.weight_bits
    assert p.even is None or p.summed <= p.even.summed + 1e-9
    assert "activations='float'" in p.recipe and "by='given'" in p.recipe


def test_foretold_rankings_and_their_control(found):
    names = [(a, b) for a, b, _ in found.agreements]
    foretold = ["squared error", "Fisher information", "Hessian trace", "activation variance"]
    assert names == [("prune", "bits"), *(("bits", name) for name in foretold)]
    assert all(c.n == 10 and -1 <= c.rho <= 1 for *_, c in found.agreements)


def test_proxies_by_hand(digits, trained):
    model = layers.own(digits.copy(trained)).eval()
    sites, _ = bits.find(model, digits.inputs(digits.split("validation").x[:2]))
    grid = [bits.ratio(4), bits.ratio(2)]
    errors = bits.proxies(model, digits, sites, grid)["squared error"]
    head = layers.weighted(model)["head"]
    expected = [float((bits.rounded(head, b) - head.weight).detach().square().sum()) for b in (4, 2)]
    assert errors[-1] == pytest.approx(sum(expected) / 2) and len(errors) == len(sites)


def test_words_pictures_and_page(found, tmp_path):
    said = text(found)
    assert "down to " in said and "For bytes_kept=0.3 by bits" in said and " bits  " in said
    assert "up to a ratio of" in said  # of prune, as before
    scan = found.scans[1]
    curves, heat = figures.curves(scan), figures.heatmap(scan)
    assert curves["layout"]["xaxis"]["ticktext"] == ["dense", "8", "4", "3", "2"]
    assert curves["layout"]["xaxis"]["tickvals"] == curves["data"][0]["x"] == [0, 0.25, 0.5, 0.75, 1]
    assert heat["data"][0]["x"] == ["8", "4", "3", "2"]
    html = write(found, tmp_path).read_text(encoding="utf-8")
    assert 'id="bits"' in html and "Weights in fewer bits" in html and "keeps 95 % down to" in html
    assert re.search(r">\d bits</td>", html)
    numbers = json.loads((tmp_path / "sensitivity.json").read_text(encoding="utf-8"))
    assert numbers["proposals"][1]["layers"] == [list(pair) for pair in found.proposals[1].layers]


def test_quick_is_a_tenth_of_the_passes(found, trained, digits):
    quick = sensitivity(trained, digits, ("bits",), quick=True).scans[0]
    assert [bits.bits(r) for r in quick.ratios] == [4, 2]
    assert quick.passes * quick.images / (found.scans[1].passes * found.scans[1].images) == pytest.approx(0.1, abs=0.01)


def test_what_is_quantized_already_is_left_out(trained, digits):
    model, _ = catalog.recipe("MixedBits(by='given', layers=(('head', 4),), activations='float')").apply(
        trained, digits
    )
    scan = sensitivity(model, digits, ("bits",), quick=True).scans[0]
    assert "head" not in [row.path for row in scan.rows]
    assert "left out, quantized already: head" in scan.notes


def test_a_goal_below_two_bits(trained, digits):
    with pytest.raises(BadField, match=r"scan 'bits' with no fewer than 2 bits; the furthest is bytes_kept=0\.\d+"):
        sensitivity(trained, digits, ("bits",), goals=("bytes_kept=0.05",))


def test_the_model_is_untouched(found, trained):
    assert torch.isfinite(trained.head.weight).all() and getattr(trained.head, "wq", None) is None
