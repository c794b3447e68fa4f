"""Finetune on the real digits: wins back what a cut took, changes nothing at its neutral setting."""

from __future__ import annotations

import pytest
import torch

from lessen.core.errors import BadField
from lessen.distill.finetune import Finetune
from lessen.ops import layers
from lessen.ops.train import Plan
from lessen.tasks import task as find


@pytest.fixture(scope="module")
def scratch(digits):
    """A net trained from random weights, with its record."""
    with digits.seeded(0):
        model = digits.build("cnn(width=0.25)")
    return Finetune(epochs=6, lr=0.1, batch=16).apply(model, digits)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_trains_from_scratch(scratch):
    _, record = scratch
    assert record.score > 0.9
    assert [e.epoch for e in record.history] == [1, 2, 3, 4, 5, 6]
    assert record.history[-1].score == record.score


def test_wins_back_what_a_cut_took(digits, scratch):
    model = digits.copy(scratch[0])
    for layer in layers.weighted(model).values():
        layer.set_mask(layer.weight.abs() >= layer.weight.abs().flatten().quantile(0.8))
    cut = digits.evaluate(model, "validation")
    tuned, record = Finetune(epochs=2, batch=32).apply(model, digits)
    assert record.score > cut
    for path, layer in layers.weighted(tuned).items():
        assert torch.equal(layer.weight != 0, model.get_submodule(path).mask)


def test_neutral_setting_changes_nothing(digits, scratch):
    model, record = Finetune(**Finetune.neutral).apply(scratch[0], digits)
    assert same(model, scratch[0])
    assert record.history == ()


def test_same_seed_same_result_and_input_untouched(digits, scratch):
    before = digits.copy(scratch[0])
    tune = Finetune(epochs=1, batch=64)
    (a, _), (b, _), (c, _) = (tune.apply(scratch[0], digits, seed=s) for s in (1, 1, 2))
    assert same(a, b)
    assert not same(a, c)
    assert same(before, scratch[0])


def test_every_field_is_the_plans():
    assert set(Finetune.model_fields) == set(Plan.__dataclass_fields__) - {"span"}
    assert Plan(**dict(Finetune())).lr == 0.01


def test_a_net_that_saw_jittered_images_bears_other_light():
    task = find("digits(jittered=0.6)")
    scores = []
    for jitter in (0.0, 0.6):
        with task.seeded(0):
            model = task.build("cnn(width=0.25)")
        scores.append(Finetune(epochs=6, lr=0.1, batch=16, jitter=jitter).apply(model, task)[1].score)
    assert scores[1] > scores[0] + 0.1


def test_out_of_range():
    with pytest.raises(BadField, match=r"Finetune.batch = 1 is out of its range 2 to 65536 \(samples a step\)"):
        Finetune(batch=1)


def test_a_size_that_the_model_cannot_take_is_named_before_training(digits):
    with digits.seeded(0):
        model = digits.build("users_nets:shared_activation")
    line = r"sizes = \(8, 4\) holds 4, but the model cannot take images of 4 px: '5': .*; leave it out, or average"
    with pytest.raises(BadField, match=line):
        Finetune(epochs=1, sizes=(8, 4)).apply(model, digits)
