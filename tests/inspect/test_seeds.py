"""Closeness over seeds: what a run's rows give, one seed against the page of one seed, numbers and words by hand."""

from __future__ import annotations

import json
import math
import re
import shutil

import pytest
import tiny_run
from tiny_run import ALONE, STUDY, TAUGHT

from lessen.artifact import load
from lessen.core.errors import BadArtifact, BadField, BadStudy, Refused, UnknownName
from lessen.inspect import Shown, beside, close, is_run, page, seeds, text, write
from lessen.inspect.closeness import measures, runs, seed_draw, seed_words
from lessen.inspect.closeness.measures import AGREE, ECE, KL, Taken
from lessen.inspect.closeness.runs import Chosen
from lessen.inspect.closeness.seeds import put
from lessen.store import Store


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three seeds of three recipes. Int8 is not done at seed 2."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    tiny_run.run(STUDY.model_copy(update={"seeds": (0, 1)}), folder)
    tiny_run.run(STUDY.model_copy(update={"recipes": ()}), folder)
    return folder


@pytest.fixture(scope="module")
def found(run):
    return seeds(run, ["taught", "alone"], images=40)


def chosen(seeds=(0, 1, 2), names=("taught", "alone")) -> Chosen:
    return Chosen("study", "digits()", "", "cnn", names, tuple(n.upper() for n in names), seeds, {}, ())


def taken(agree, kl, ece, share=0.5, between=True) -> Taken:
    return Taken(
        {AGREE: agree, KL: kl, ECE: ece[1:]}, (1.0, 0.9, 0.8), ece, {AGREE: 0.99, KL: 0.01} if between else {}, {},
        {(2, "KL of the answers"): share}, "conv", "", (),
    )  # fmt: skip


THREE = [
    taken((0.90, 0.80), (0.1, 0.20), (0.01, 0.05, 0.02), 0.7),
    taken((0.92, 0.80), (0.1, 0.31), (0.02, 0.05, 0.03), 0.71),
    taken((0.94, 0.80), (0.1, 0.40), (0.03, 0.05, 0.04), 0.72),
]  # fmt: skip


def test_numbers_by_hand():
    """Differences 0.10, 0.12, 0.14: mean 0.12, standard error 0.02 / sqrt(3), t at 97.5 % with two degrees 4.3027."""
    found = put(chosen(), ("original", "taught", "alone"), THREE, 100)
    agree, kl, ece = found.lines
    half = 0.95 / math.sqrt(0.04875) * 0.02 / math.sqrt(3)
    assert agree.means[0].value == pytest.approx(0.92) and agree.means[1].values == (0.8, 0.8, 0.8)
    assert agree.gaps[0][:3] == pytest.approx((0.12, 0.12 - half, 0.12 + half))
    t = 0.12 / (0.02 / math.sqrt(3))
    assert agree.gaps[0].p == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert agree.between.value == pytest.approx(0.99) and agree.original is None
    assert ece.original.value == pytest.approx(0.02) and ece.gaps[0].value == pytest.approx(0.02)
    assert kl.gaps[0].values == pytest.approx((-0.1, -0.21, -0.3))
    assert found.tests == 4 and found.nearer[0].share.value == pytest.approx(0.71)
    assert found.nearer[0].gap.p_holm == pytest.approx(4 * found.nearer[0].gap.p) and found.nearer[0].gap.clear


def test_words_follow_from_the_numbers():
    said = put(chosen(), ("original", "taught", "alone"), THREE, 100).sentences()
    assert "taught: same answer 92.0 % (87.0 to 97.0), KL 0.1 nats (0.1 to 0.1)." in said
    assert "For scale, originals of two seeds: same answer 99.0 %, KL 0.01 nats." in said
    closer = next(s for s in said if s.startswith("Against alone, taught is clearly closer"))
    assert "same answer by +12.0 points (+7.0 to +17.0); not clearly closer or further in KL" in closer
    assert "Against alone, taught is not clearly better calibrated or worse in calibration error." in said
    assert any("KL of the answers 71.0 % (68.5 to 73.5)." in s for s in said)
    assert any("all 4 tests" in s and "With 3 seeds only" in s for s in said)


def test_what_is_the_same_at_every_seed_is_not_called_clear():
    same = [taken((0.9, 0.8), (0.1, k), (0.01, 0.05, 0.02)) for k in (0.2, 0.3, 0.4)]
    found = put(chosen(), ("original", "taught", "alone"), same, 100)
    assert found.lines[0].gaps[0].p is None and seed_words.word(found, found.lines[0].gaps[0]) == "same at every seed"
    assert any("the same distance away at every seed" in s and "in same answer" in s for s in found.sentences())


def test_one_seed_shows_nothing_clearly():
    found = put(chosen((3,)), ("original", "taught", "alone"), [taken((0.9, 0.8), (0.1, 0.2), (0.0, 0.1, 0.2))], 100)
    said = " ".join(found.sentences())
    assert "One seed shows nothing clearly" in said and "clear." not in said.replace("clearly", "") and not found.tests
    assert "Against" not in said and "For scale" in said and "same answer 90.0 %," in said
    html = page.render_seeds(found)
    assert "would have been clear" not in html.split('class="prose"')[0] and "p =" not in html
    assert not re.search(r"\bnan\b|None|undefined", html)


def test_a_model_without_a_place_is_said_and_drawn():
    rows = [t._replace(values=t.values | {KL: (t.values[KL][0], math.nan)}) for t in THREE]
    found = put(chosen(), ("original", "taught", "alone"), rows, 100)
    assert found.lines[1].means[1] is None and found.lines[1].gaps[0] is None
    html = page.render_seeds(found)
    assert "has no such place" in html and not re.search(r"\bnan\b|None|undefined", html)
    assert json.dumps(found.json(), allow_nan=False)


def test_one_seed_gives_what_its_page_gives(run, found):
    """The means of seed 0 are those of the page of single models on the same images."""
    picked = runs.choose(run, ["taught", "alone"])
    shown = [Shown(n, load(picked.artifacts[r, 0]).model(), r) for n, r in (("o", ""), ("t", TAUGHT), ("a", ALONE))]
    from lessen.tasks import task

    digits = task(STUDY.task)
    one = close(beside(shown, digits, images=40), shown, digits, images=40)
    by = {line.kind.title: line for line in found.lines}
    for i in (0, 1):
        own = one.answers[i + 1]
        assert by["same answer"].means[i].values[0] == pytest.approx(own.agreement.mean)
        assert by["KL"].means[i].values[0] == pytest.approx(own.kl.mean, rel=1e-5)
        assert by["JS"].means[i].values[0] == pytest.approx(own.js.mean, rel=1e-5)
        assert by["calibration error"].means[i].values[0] == pytest.approx(own.ece.mean)
        assert by["CKA at 4x4"].means[i].values[0] == pytest.approx(one.aligned.matches[1].cka[i + 1].mean)
        assert by["attention 8x8"].means[i].values[0] == pytest.approx(one.attention[0].moved[i + 1].mean)
        like = one.looked.views.likeness[i + 1]
        assert by["Grad-CAM cosine"].means[i].values[0] == pytest.approx(like.cosine.mean)
        assert by["Grad-CAM SSIM"].means[i].values[0] == pytest.approx(like.ssim.mean)
    for contest, nearer in zip(one.contests, found.nearer, strict=True):
        assert (contest.measure, contest.share.mean) == (nearer.measure, pytest.approx(nearer.share.values[0]))


def test_the_scale_is_the_original_of_the_next_seed(run, digits):
    """An original beside itself is as close as can be; in the place of the other it tells how close."""
    model = load(runs.choose(run, ["taught"]).artifacts["", 0]).model()
    x, y = digits.split("validation")
    own = measures.take([model, model], ("o", "same"), model, digits, x[:30], y[:30])
    assert own.values[AGREE] == (1,) and own.between[AGREE] == 1 and own.values[KL] == pytest.approx((0,), abs=1e-6)
    titles = {kind.title: v for kind, v in own.values.items()}
    assert titles["CKA before the classifier"] == pytest.approx((1,)) and titles["Grad-CAM cosine"] == pytest.approx(
        (1,)
    )
    assert ECE not in own.between and not own.shares
    alone = measures.take([model, model], ("o", "same"), None, digits, x[:30], y[:30])
    assert alone.between == {} and alone.values == own.values


def test_all_of_it(found, tmp_path):
    assert found.names == ("original", "taught", "alone") and found.seeds == (0, 1, 2) and found.images == 40
    assert {line.kind.title for line in found.lines} == {
        "same answer", "KL", "JS", "calibration error", "CKA at 8x8", "CKA at 4x4", "CKA at 2x2",
        "CKA before the classifier", "Grad-CAM cosine", "Grad-CAM SSIM", "attention 8x8", "attention 4x4",
        "attention 2x2",
    }  # fmt: skip
    assert all(len(m.values) == 3 for line in found.lines for m in line.means)
    assert found.tests == sum(
        g.p is not None for g in (*(n.gap for n in found.nearer), *(x.gaps[0] for x in found.lines))
    )
    shown = write(found, tmp_path)
    html = shown.read_text(encoding="utf-8")
    assert shown.name == "seeds.html" and "<script" not in html and "http" not in html.replace("http-equiv", "")
    assert not re.search(r"\bnan\b|None|undefined", html)
    assert html.count('class="span seeds"') == 2 * len(found.lines) + 1 + len(found.nearer)
    numbers = json.loads((tmp_path / "seeds.json").read_text(encoding="utf-8"))
    assert numbers["lines"][1]["kind"]["title"] == "KL" and len(numbers["lines"][1]["means"][0]["values"]) == 3
    assert numbers["lines"][1]["gaps"][0]["p_holm"] == found.lines[1].gaps[0].p_holm
    assert text(found).splitlines() == numbers["sentences"]


def test_seeds_that_lack_a_recipe_are_left_out(run):
    picked = runs.choose(run, ["Int8( )", "taught"])
    assert picked.names == ("Int8", "taught") and picked.seeds == (0, 1) and "seeds 2." in picked.notes[0]


def test_a_recipe_is_named_by_text_or_arm(run):
    assert runs.choose(run, [TAUGHT.replace(" >> ", ">>")]).names == ("taught",)
    assert is_run(str(run), close=True) and not is_run("digits/cnn", close=True)
    assert not is_run(str(run / "artifacts" / "baseline-0"), close=True)


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (["taugt"], UnknownName, "unknown recipe of this run 'taugt'; did you mean 'taught'?"),
        (["xyz"], UnknownName, "known: alone, taught, short"),
        (["Int8(bits=3)"], UnknownName, "did you mean 'Int8()'?"),
        (["long"], BadField, "arm 'long' has 2 recipes; name one of them: Student"),
        (["itself"], BadField, "'itself' is the baseline"),
        (["taught", TAUGHT], BadField, "twice; leave one out"),
    ],
)
def test_what_is_no_recipe_of_the_run_is_told(run, asked, error, says):
    with pytest.raises(error) as raised:
        runs.choose(run, asked)
    assert says in str(raised.value)


def test_files_that_are_gone_are_named(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("steps"))
    gone = runs.choose(copy, ["taught"]).artifacts[TAUGHT, 1]
    shutil.rmtree(gone)
    with pytest.raises(BadArtifact, match=f"{gone} is gone; run the study again"):
        seeds(copy, ["taught"], images=40)


def test_an_arm_that_was_not_run_yet_is_told(run, tmp_path):
    with Store(run / "study.db") as store, Store(tmp_path / "study.db") as other:
        other.set_description(store.describe())
        other.add(next(t for t in store.trials() if t.key == ("", 0)))
    with pytest.raises(BadStudy, match="arm 'taught' has not been run yet; go on with the study"):
        runs.choose(tmp_path, ["taught"])


def test_a_run_that_saw_its_validation_images_is_refused(run, tmp_path):
    with Store(run / "study.db") as store, Store(tmp_path / "study.db") as other:
        for trial in store.trials():
            other.add(trial.model_copy(update={"final": True}))
    with pytest.raises(BadStudy, match="trained on its validation images too"):
        runs.choose(tmp_path, ["Int8()"])


def test_no_seed_with_everything(run, tmp_path):
    with Store(run / "study.db") as store, Store(tmp_path / "study.db") as other:
        for trial in store.trials():
            if trial.key in {("", 0), ("Int8()", 1)}:
                other.add(trial)
    with pytest.raises(BadStudy, match=re.escape("the baseline: 0; Int8(): 1); go on with it")):
        runs.choose(tmp_path, ["Int8()"])


def test_grad_cam_at_a_layer_that_is_asked_for(run):
    at = "features.conv1_1.act"
    assert seeds(run, ["Int8()"], images=20, at=at).layer == at
    with pytest.raises(Refused, match=r"'features\.conv3_1\.act' of original gives a map of 2x2, too coarse"):
        seeds(run, ["Int8()"], images=20, at="features.conv3_1.act")


def test_an_axis_ends_at_round_numbers_around_everything():
    assert seed_draw.Axis.around([0.12, 0.87]) == (0.0, 1.0) and seed_draw.Axis.around([0.81, 0.89]) == (0.8, 0.9)
    assert seed_draw.Axis.around([0.5, 0.5, math.nan]).low <= 0.5 < seed_draw.Axis.around([0.5]).high
    on = seed_draw.Axis(0.0, 0.5)
    assert (on.at(0.25), on.at(0.75), on.at(-1)) == (50, 100, 0)


@pytest.fixture
def shell(monkeypatch, capsys):
    from command_line import Shell

    return Shell(monkeypatch, capsys)


def test_the_command(shell, run, tmp_path):
    asked = ["inspect", run, "--beside", "taught", "--beside", "Int8()", "--close", "--images", "20"]
    out = shell.done(*asked, "-o", tmp_path / "look")
    assert "Against Int8, taught is" in out and "seeds.html is written" in out
    assert {p.name for p in (tmp_path / "look").iterdir()} == {"seeds.html", "seeds.json"}
    assert "exists already" in shell.refuses(*asked, "-o", tmp_path / "look")
    numbers = json.loads(shell.done(*asked, "--json", "-o", tmp_path / "again"))
    assert numbers["names"] == ["original", "taught", "Int8"] and numbers["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--close"], "ask for closeness over its seeds by: --beside 'RECIPE OR ARM' --close"),
        (["--beside", "taught"], "ask for closeness over its seeds"),
        (["--beside", "taught", "--close", "--sensitivity", "prune"], "--sensitivity looks into one model"),
        (["--beside", "taught", "--close", "--errors"], "--errors looks into one model"),
        (["--distributions"], "--distributions looks into one model"),
        (["--beside", "taught", "--close", "--images", "19"], "images = 19 must be at least 20"),
        (["--beside", "taught"] * 6 + ["--close"], "6 models beside the original; give 1 to 5"),
    ],
)
def test_what_makes_no_sense_of_a_run_is_refused_at_once(shell, run, tmp_path, options, says):
    assert says in shell.refuses("inspect", run, *options, "-o", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_without_a_study_is_no_run(shell, tmp_path):
    said = shell.refuses("inspect", tmp_path, "--beside", "Int8()", "--close", "-o", tmp_path / "x")
    assert "neither a study's run (it has no study.db) nor an artifact" in said
