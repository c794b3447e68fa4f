"""The verb on a trained net: findings, goals, proposals, the page, and what bad input gets."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html import unescape
from typing import ClassVar

import numpy as np
import plotly.graph_objects as go
import pytest
from torch import nn

from lessen import catalog
from lessen.cli import app
from lessen.core.errors import BadData, BadField, Refused, UnknownName
from lessen.core.technique import Technique
from lessen.inspect import figures, findings, page, proposal, sensitivity, text, write
from lessen.inspect.goals import Goal


@pytest.fixture(scope="module")
def found(trained, digits):
    goals = ("weights_removed=0.7", "bytes_kept=0.6", "channels_removed=0.3", "channels_removed_per_layer=0.25")
    return sensitivity(trained, digits, ("prune", "channels", "rank"), goals=goals)


def test_the_model_is_untouched_and_dense_is_the_tasks_score(found, trained, digits):
    assert all(scan.dense == pytest.approx(digits.evaluate(trained, "validation")) for scan in found.scans)
    assert type(trained.head) is nn.Linear or trained.head.mask is None


def test_grids_layers_and_scores(found, trained, digits):
    prune, channels, rank = found.scans
    assert prune.ratios == (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert len(prune.rows) == len(rank.rows) == 10
    assert [len(row.layers) for row in channels.rows] == [2, 1, 1, 2, 1, 2]
    alone, _ = catalog.recipe("MagnitudePrune(sparsity=0.0)").apply(trained, digits)
    from lessen.ops import layers, sparsity

    layer = layers.weighted(alone)["head"]
    layer.set_mask(sparsity.layer_masks({"head": layer}, 0.9)["head"])
    assert prune.rows[-1].scores[-1] == pytest.approx(digits.evaluate(alone, "validation"))


def test_proposals_reach_their_goals_with_no_more_loss_than_the_same_ratio_everywhere(found):
    assert [(p.kind, p.goal) for p in found.proposals][:3] == [
        ("prune", "weights_removed=0.7"), ("channels", "weights_removed=0.7"), ("rank", "weights_removed=0.7"),
    ]  # fmt: skip
    for p in found.proposals:
        goal, reached = Goal.read(p.goal), Goal.read(p.reached)
        assert reached.keep <= goal.keep + 1e-3
        assert p.even is None or p.summed <= p.even.summed + 1e-9
        assert all(s.reason for s in p.shares)
        scan = next(s for s in found.scans if s.kind == p.kind)
        for share, row in zip(p.shares, scan.rows, strict=True):
            option = (0.0, *scan.ratios).index(share.ratio)
            assert share.drop == pytest.approx([0.0, *(max(0.0, scan.dense - s) for s in row.scores)][option])
    even = found.proposals[-1]
    assert even.goal == "channels_removed_per_layer=0.25" and {s.ratio for s in even.shares} == {0.3}


def test_the_joint_score_is_that_of_the_pruned_model(found, trained, digits):
    from lessen.ops import layers, sparsity

    p = found.proposals[0]
    model, _ = catalog.recipe("MagnitudePrune(sparsity=0.0)").apply(trained, digits)
    for path, ratio in p.layers:
        layer = layers.weighted(model)[path]
        layer.set_mask(sparsity.layer_masks({path: layer}, ratio)[path])
    assert p.score == pytest.approx(digits.evaluate(model, "validation"))


@pytest.mark.parametrize("kind", ["prune", "channels"])
def test_a_recipe_names_its_layers(kind):
    layers = (("conv1", 0.5), ("head", 0.8))
    assert str(layers) in str(catalog.recipe(proposal.recipe(kind, layers)))


def test_shares_of_a_rank_are_no_ranks_so_no_recipe_is_written():
    assert proposal.recipe("rank", (("conv1", 0.5),)) == ""


def test_a_recipe_changes_no_other_layer(monkeypatch):
    class Pruned(Technique):
        """Stands for a technique with a ratio for every layer."""

        neutral: ClassVar[dict | None] = {"amount": 0.0}
        amount: float = 0.5
        layers: tuple[tuple[str, float], ...] = ()

        def _apply(self, model, task, run):
            return model

    monkeypatch.setattr(catalog, "technique", lambda name: Pruned)
    assert proposal.recipe("prune", (("one", 0.5),)) == "Pruned(amount=0.0, layers=(('one', 0.5),))"


def test_quick_costs_a_tenth_and_says_how_far_it_may_be_off(found, trained, digits):
    quick = sensitivity(trained, digits, ("prune",), quick=True)
    cost = [scan.passes * scan.images for scan in (quick.scans[0], found.scans[0])]
    assert cost[0] / cost[1] == pytest.approx(0.1, abs=0.005)
    assert quick.scans[0].agreement_low <= quick.scans[0].agreement < 1
    assert "coarser grid" in quick.sentences()[-1]
    wide = [np.mean([b - a for a, b in (row.places for row in s.rows)]) for s in (quick.scans[0], found.scans[0])]
    assert wide[0] > wide[1]


def planted(scores, weights, dense=1.0):
    """A scan of 40 images in which row i at ratio j has scores[i][j] right answers."""
    right = np.array([[np.arange(40) < round(40 * s) for s in row] for row in scores])
    base = np.arange(40) < round(40 * dense)
    ratios = tuple(np.linspace(0.4, 0.9, right.shape[1]).round(2).tolist())
    paths = [(f"l{i}",) for i in range(len(scores))]
    return findings.build("prune", ratios, paths, weights, sum(weights), base, right, [])


def test_early_layers_that_are_small():
    scan = planted([[0.5, 0.1], [0.6, 0.2], [0.7, 0.4], [0.8, 0.6], [0.95, 0.9], [1, 0.95]], [1, 2, 3, 4, 50, 60])
    said = findings.sentences(scan)
    assert "Most sensitive: l0" in said[0] and "Least sensitive: l5" in said[0]
    assert said[1].startswith("Early layers") and "the likely reason is size" in said[1].lower()
    assert "first half of them holds 5 %" in said[1]
    assert [row.holds for row in scan.rows] == [0, 0, 0, 0, 0.4, 0.9]


def test_late_layers_and_no_trend():
    late = planted([[1, 0.95], [0.95, 0.9], [0.8, 0.6], [0.7, 0.4], [0.6, 0.2], [0.5, 0.1]], [5] * 6)
    assert findings.sentences(late)[1].startswith("Late layers")
    flat = planted([[0.9, 0.5], [0.7, 0.2], [0.95, 0.6]], [1, 2, 3])
    assert findings.sentences(flat)[1].startswith("Neither early nor late")
    same = planted([[0.9, 0.5]] * 3, [1, 2, 3])
    assert "equally sensitive" in findings.sentences(same)[0] and "cannot be said" in findings.sentences(same)[1]


def test_scans_are_compared_over_their_common_layers(found):
    both = next(item[2] for item in found.agreements if item[:2] == ("prune", "channels"))
    assert both.n == 9  # the head's channels stay
    assert findings.between(found.scans[0], found.scans[0]).rho == 1


def test_files_hold_all_numbers_and_the_page_needs_no_network(found, tmp_path):
    path = write(found, tmp_path / "out")
    numbers = json.loads((tmp_path / "out/sensitivity.json").read_text(encoding="utf-8"))
    assert numbers["scans"][0]["rows"][0]["scores"] == list(found.scans[0].rows[0].scores)
    assert numbers["proposals"][0]["layers"] and numbers["agreements"][0]["scans"] == ["prune", "channels"]
    html = unescape(path.read_text(encoding="utf-8"))
    assert not re.search(r'(?:src|href)\s*=\s*"?https?:', html.split("<script>")[0])
    assert "default-src 'none'" in html and found.proposals[0].shares[0].reason in html


def test_plotly_knows_every_field(found):
    for scan in found.scans:
        for figure in (figures.curves(scan), figures.heatmap(scan)):
            go.Figure(json.loads(re.sub(r"var\(--\w+\)", "#000000", json.dumps(figure))))


def test_user_text_cannot_leave_its_place(found):
    from dataclasses import replace

    evil = "<script>alert(1)</script>"
    row = replace(found.scans[0].rows[0], path=evil, layers=(evil,))
    scan = replace(found.scans[0], rows=(row, *found.scans[0].rows[1:]))
    assert evil not in page.render(replace(found, scans=(scan,), proposals=(), agreements=()))


def test_terminal_text_names_every_layer_of_a_proposal(found):
    said = text(found)
    assert "Most sensitive" in said and "For bytes_kept=0.6 by rank" in said
    assert all(share.path in said for share in found.proposals[0].shares)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kinds": ("prun",)}, UnknownName, "did you mean 'prune'"),
        ({"layers": ("hed",)}, UnknownName, "did you mean 'head'"),
        ({"goals": ("weights=0.7",)}, UnknownName, "did you mean 'weights_removed'"),
        ({"goals": ("weights_removed=1.0",)}, BadField, "at least 0 and below 1"),
        ({"goals": ("bytes_kept=0",)}, BadField, "above 0 and at most 1"),
        ({"goals": ("weights_removed",)}, BadField, "has no share"),
        ({"goals": ("weights_removed=0.95",)}, BadField, "the furthest is weights_removed=0.9"),
        ({"goals": ("channels_removed=0.3",)}, BadField, "--sensitivity prune,channels"),
        ({"kinds": ("channels",), "goals": ("channels_removed_per_layer=0.95",)}, BadField, "per_layer=0.9"),
        ({"layers": ("head",), "goals": ("weights_removed=0.5",)}, BadField, "cannot be reached"),
    ],
)
def test_bad_input_is_one_line_with_the_mend(trained, digits, changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        sensitivity(trained, digits, **{"kinds": ("prune",), **changes})


def test_a_task_without_validation_and_a_model_without_layers(trained):
    from lessen.tasks import task

    with pytest.raises(BadData, match="no validation images"):
        sensitivity(trained, task("digits(final=True)"))
    digits = task("digits")
    with pytest.raises(Refused, match="no convolution or linear layer"):
        sensitivity(nn.Sequential(nn.Flatten(), nn.LayerNorm(64)), digits)


def test_a_scan_says_where_it_does_not_go_by_the_tasks_score(trained, digits, monkeypatch):
    told = "scores are shares of right answers here, not the task's "
    assert not any(told in text for text in sensitivity(trained, digits, layers=("head",), quick=True).sentences())
    monkeypatch.setattr(digits, "score", lambda outputs, y: 0.5)
    assert any(told in text for text in sensitivity(trained, digits, layers=("head",), quick=True).sentences())


def test_one_layer_alone(trained, digits):
    scan = sensitivity(trained, digits, ("prune",), layers=("head",)).scans[0]
    assert [row.path for row in scan.rows] == ["head"] and scan.rows[0].share < 0.05


def test_the_command(baseline, tmp_path):
    from typer.testing import CliRunner

    out = tmp_path / "look"
    command = ["inspect", str(baseline.folder), "-o", str(out), "--sensitivity", "prune", "--quick", "--json",
               "--goal", "weights_removed=0.5"]  # fmt: skip
    run = CliRunner().invoke(app, command, catch_exceptions=False)
    assert run.exit_code == 0
    assert json.loads(run.stdout)["proposals"][0]["goal"] == "weights_removed=0.5"
    assert (out / "sensitivity.html").is_file()


def test_importing_the_room_is_cheap():
    code = "import sys, lessen.inspect; print('torch' in sys.modules, 'numpy' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
