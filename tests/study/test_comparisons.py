"""Comparisons in a study: what they run, what they may say, and each mistake in one line."""

from __future__ import annotations

import pytest
import yaml

from lessen import catalog, tasks
from lessen.core.errors import BadField, BadRecipe, BadStudy, LessenError, UnknownName
from lessen.study import Study, files

TEXT = """
name: small
task: digits
model: cnn
recipes: [Int8()]
comparisons:
  - question: How far?
    x: MagnitudePrune.sparsity
    arms:
      dense: ''
      ours: [MagnitudePrune(sparsity=0.5), MagnitudePrune(sparsity=0.8)]
  - question: Which?
    arms:
      eight: Int8( )
      half: MagnitudePrune(sparsity=0.5)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(TEXT)
    return path


def test_recipes_of_arms_are_run_once_behind_those_listed(file):
    study = Study.read(file)
    assert study.everything == ("Int8()", "MagnitudePrune(sparsity=0.5)", "MagnitudePrune(sparsity=0.8)")
    assert study.recipes == ("Int8()",)
    assert study.comparisons[1].arms["eight"] == ("Int8()",)  # as it stands in the rows
    assert study.comparisons[0].curves and not study.comparisons[1].curves


def test_its_text_and_its_description_are_read_back(file, tmp_path):
    study = Study.read(file)
    (tmp_path / "again.yaml").write_text(study.text())
    assert Study.read(tmp_path / "again.yaml") == study
    assert Study(**study.model_dump(mode="json")) == study


def test_the_same_questions_elsewhere(file):
    study = Study.read(file)
    other = study.on(task="fashion", model="resnet8", seeds=(4, 5))
    assert (other.task, other.model, other.seeds) == ("fashion", "resnet8", (4, 5))
    assert other.comparisons == study.comparisons and study.on() == study
    with pytest.raises(BadRecipe):
        study.on(task="fashion(")


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


@pytest.mark.parametrize(
    "text, kind, message",
    [
        (changed("    arms:\n      eight: Int8( )\n      half: MagnitudePrune(sparsity=0.5)\n", ""),
         BadField, "small.yaml: comparison 2 of 2: Comparison lacks its field 'arms'"),
        (changed("      eight: Int8( )\n      half: MagnitudePrune(sparsity=0.5)\n", ""),
         BadField, "comparison 2 of 2: Comparison.arms names no arms; write name: recipe for each"),
        (changed("    arms:\n      eight: Int8( )\n      half: MagnitudePrune(sparsity=0.5)\n", "    arms: {}\n"),
         BadStudy, "comparison 2 of 2: names no arms; a comparison needs two arms or more"),
        (changed("      half: MagnitudePrune(sparsity=0.5)\n", ""),
         BadStudy, "comparison 2 of 2: names only 'eight'; a comparison needs two arms or more"),
        (changed("Int8( )", "Int9()"), BadRecipe, "comparison 2 of 2: arm 'eight', 'Int9()': unknown technique 'Int9'"),
        (changed("eight: Int8( )", "eight:"), BadField, "comparison 2 of 2: arm 'eight' has no recipe; write '' for"),
        (changed("eight: Int8( )", "2:4: Int8()"), BadField, "the arm's name 124 is no text; put it in quotes"),
        (changed("eight: Int8( )", "eight: 8"), BadField, "comparison 2 of 2: Comparison.arms.eight = 8 is wrong"),
        (changed("half: ", "eight: "), BadStudy, "small.yaml is no YAML: 'eight' stands twice"),
        (changed("half: MagnitudePrune(sparsity=0.5)", "half: Int8()"),
         BadStudy, "comparison 2 of 2: two arms have the same recipes; leave one out"),
        (changed("0.8)]", "0.5)]"),
         BadStudy, "comparison 1 of 2: arm 'ours' names 'MagnitudePrune(sparsity=0.5)' twice; leave one out"),
        (changed("    x: MagnitudePrune.sparsity\n", ""),
         BadStudy, "comparison 1 of 2: arm 'ours' has 2 recipes; set x, which tells what they are drawn against"),
        (changed("x: MagnitudePrune.sparsity", "x: sparsty"), UnknownName, "unknown x 'sparsty'; did you mean 'spars"),
        (changed("x: MagnitudePrune.sparsity", "x: time"),
         UnknownName, "known: sparsity, parameters, bits, bytes, macs,"),
        (changed("x: MagnitudePrune.sparsity", "x: MagnitudPrune.sparsity"),
         UnknownName, "comparison 1 of 2: unknown technique 'MagnitudPrune'; did you mean 'MagnitudePrune'"),
        (changed("x: MagnitudePrune.sparsity", "x: MagnitudePrune.sparsty"),
         UnknownName, "comparison 1 of 2: unknown field of MagnitudePrune in x 'sparsty'; did you mean 'sparsity'"),
        (changed("x: MagnitudePrune.sparsity", "x: MagnitudePrune.scope"),
         BadStudy, "arm 'ours', 'MagnitudePrune(sparsity=0.5)', has no number MagnitudePrune.scope, which x asks for"),
        (changed("x: MagnitudePrune.sparsity", "x: ChannelPrune.ratio"),
         BadStudy, "comparison 1 of 2: arm 'ours', 'MagnitudePrune(sparsity=0.5)', has no number ChannelPrune.ratio"),
        (changed("x: MagnitudePrune.sparsity", "x: bytes\n    by: size"),
         BadField, "comparison 1 of 2: Comparison.by = 'size' is wrong"),
        (changed("    x: MagnitudePrune.sparsity\n", "    x: sparsity\n    by: budget\n"),
         BadStudy, "comparison 1 of 2: by: budget needs a cost as x, and x is 'sparsity'; write x: bytes"),
        (changed("    x: MagnitudePrune.sparsity\n", "    x: bits\n    by: law\n"),
         BadStudy, "comparison 1 of 2: by: law needs 3 recipes or more in an arm, one for each size of the model"),
        (changed("x: MagnitudePrune.sparsity", "x: bits\n    by: class"),
         BadStudy, "comparison 1 of 2: by: class compares arms of one recipe each; make every recipe an arm"),
        (changed("question: Which?", "question: ''"), BadField, "comparison 2 of 2: Comparison.question = '' is wrong"),
        (changed("question: Which?", "queston: Which?"), BadField, "Comparison lacks its field 'question'"),
        (changed("    x: Mag", "    y: Mag"), UnknownName, "comparison 1 of 2: unknown field of Comparison 'y'"),
        (TEXT.partition("  - question: Which?")[0] + "  - Which?",
         BadStudy, "comparison 2 of 2: 'Which?' is no comparison; write question: and arms:"),
        ("name: a\ntask: digits\nmodel: cnn\ncomparisons: 3", BadField, "small.yaml: Study.comparisons = 3 is wrong"),
    ],
)  # fmt: skip
def test_a_comparison_with_a_fault_is_one_line(file, text, kind, message):
    file.write_text(text)
    with pytest.raises(LessenError) as caught:
        Study.read(file)
    assert type(caught.value) is kind and message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a", "0,x", "0;1", "1.5", "-1", "0,,1"])
def test_seeds_that_are_no_numbers(text):
    with pytest.raises(BadField, match="are no numbers; write for example 0,1,2"):
        files.seeds(text)
    assert files.seeds("0, 12") == (0, 12)


def test_the_ready_study_of_pruning_asks_what_it_should():
    study = Study.read("pruning")
    when, far, equal_bytes, equal_macs, pattern = study.comparisons
    assert len(study.seeds) == 5 and not study.recipes
    assert {"one-shot", "gradual", "polynomial", "constant"} <= set(when.arms) and not when.curves
    assert far.x == "sparsity" and all(len(recipes) >= 6 for recipes in far.arms.values())
    assert set(far.arms) == {"magnitude", "gradient", "random"}
    assert (equal_bytes.x, equal_macs.x) == ("bytes", "nonzero macs")
    assert all(len(recipes) == 3 for c in (equal_bytes, equal_macs) for recipes in c.arms.values())
    assert list(pattern.arms) == ["anywhere", "2:4"]
    text = files.text(files.path("pruning"))
    assert text.count("#") > 10 and yaml.safe_load(text)["name"] == "pruning"


def test_the_ready_study_of_quantization_asks_what_it_should():
    study = Study.read("quantization")
    assert len(study.comparisons) == 8 and len(study.seeds) == 5
    law, budget, by_class = study.comparisons[5:]
    assert (law.by, law.x) == ("law", "bits") and list(law.arms) == ["32 bits", "8 bits", "4 bits", "3 bits", "2 bits"]
    for arm, recipes in law.arms.items():  # the same widths, trained alike but for the bits
        assert len(recipes) == 5 and sum(r.startswith("Student(") for r in recipes) == 4, arm
        last = {r.rpartition(" >> ")[2] for r in recipes}
        assert len(last) == 1 and "epochs=5, batch=32" in last.pop()
    assert (budget.by, budget.x) == ("budget", "bytes") and len(budget.arms["by gradients"]) >= 5
    assert not any("QAT" in r for r in budget.recipes)
    assert by_class.by == "class" and {"float32", "4 bits", "one bit"} <= set(by_class.arms)
    assert Study(**study.model_dump(mode="json")) == study


def test_the_ready_study_of_transformers_asks_what_it_should():
    study = Study.read("transformers")
    dynamic, eight, four, samples = study.comparisons
    assert len(study.seeds) == 5 and not study.recipes and study.model.startswith("vit(")
    assert dynamic.arms["float32"] == ("",) and {("DynamicInt8()",), ("Int8()",)} <= set(dynamic.arms.values())
    assert set(eight.arms) == set(four.arms) and len(eight.arms) == 5
    assert all("Int8(" in r for recipes in eight.arms.values() for r in recipes)
    assert all("Int4(activations=4" in r for recipes in four.arms.values() for r in recipes)
    assert samples.x == "Int4.samples" and all("samples=32" in recipes[0] for recipes in samples.arms.values())
    for name in (
        "quantization",
        "transformers",
        "distillation",
        "teachers",
        "invariance",
    ):  # the command that a ready file names is its own
        assert f"lessen study {name} -o runs/{name}" in files.text(files.path(name))


def test_every_layer_of_the_study_of_transformers_but_the_patches_is_dynamic():
    from lessen.ops import layers

    study = Study.read("transformers")
    task = tasks.task("digits(limit=40, validation=20)")
    with task.seeded(0):
        model = task.build(study.model)
    changed, record = catalog.recipe("DynamicInt8()").apply(model, task)
    kinds = {p: isinstance(m.iq, layers.DynamicQuantizer) for p, m in layers.weighted(changed).items()}
    assert [p for p, dynamic in kinds.items() if not dynamic] == ["patches"] and len(kinds) == 14
    assert any("1 convolutions are left out" in note for note in record[0].notes)


def test_the_ready_study_of_distillation_asks_what_it_should():
    study = Study.read("distillation")
    ways, _, softly, steps, several = study.comparisons
    assert len(study.seeds) == 5 and not study.recipes
    taught = {recipe.rpartition(" >> ")[2].partition("(")[0] for (recipe,) in ways.arms.values()}
    assert taught == {"Finetune", "LabelSmoothing", "LogitDistill", "DecoupledDistill", "HintDistill",
                      "AttentionDistill", "ContrastiveDistill"}  # fmt: skip
    everyone = [recipe for (recipe,) in ways.arms.values()]
    assert len({r.partition(" >> ")[0] for r in everyone}) == 1  # one student
    assert all("epochs=20" in r and "batch=32" in r for r in everyone)  # one budget
    assert (softly.by, softly.x) == ("best", "LogitDistill.temperature")
    assert [catalog.number(r, softly.x) for r in softly.arms["logits"]] == [1, 2, 4, 6, 10, 15, 20]
    assert steps.x == "parameters" and [len(r) for r in steps.arms.values()] == [3, 3]
    assert [catalog.number(r, "EnsembleDistill.count") for (r,) in several.arms.values()] == [1, 2, 3, 4, 5]


def test_the_ready_studies_of_teachers_and_of_invariance_ask_what_they_should():
    (which,) = Study.read("teachers").comparisons
    (by_16,) = which.arms["by VGG-16"]
    assert by_16.count("Student(") == 2 and by_16.index("vgg16") < by_16.index("Finetune") < by_16.index("vgg11")
    study = Study.read("invariance")
    (light,) = study.comparisons
    assert "jittered=0.6" in study.task
    for arm in ("softened shares", "decoupled", "hints", "attention", "contrast"):
        (recipe,) = light.arms[arm]
        assert recipe.index("jitter=0.6") < recipe.index("Student(") and recipe.count("jitter") == 1, arm
