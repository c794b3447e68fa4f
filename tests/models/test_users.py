"""What a function of the user's must give is looked at before anything is trained, and leaves no trace."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from users_nets import Half

from lessen import models
from lessen.core.errors import BadField, Refused
from lessen.ops import layers

HOME = {"shape": (1, 8, 8), "classes": 10}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "Auxiliary",
            "the model of 'users_nets:Auxiliary' gives tuple for two samples in training; give logits of shape (2, 10) "
            "alone, as in evaluation: leave an auxiliary head's out",
        ),
        (
            "Half",
            "the model of 'users_nets:Half' has 16-bit weights ('conv.weight' is bfloat16); call .float() on it before "
            "you return it",
        ),
    ],
)
def test_what_cannot_be_trained_or_compressed_is_said_at_once(name: str, line: str) -> None:
    with pytest.raises(BadField) as caught:
        models.build(f"users_nets:{name}", **HOME)
    assert str(caught.value) == line


def test_a_model_that_fails_in_training_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import users_nets

    def failing(shape, classes):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
        net.register_forward_pre_hook(lambda module, _: module.missing if module.training else None)
        return net

    monkeypatch.setattr(users_nets, "failing", failing, raising=False)
    with pytest.raises(BadField, match=r"cannot take two samples of shape \(1, 8, 8\) in training: AttributeError"):
        models.build("users_nets:failing", **HOME)


def test_looking_moves_nothing() -> None:
    torch.manual_seed(0)
    random.seed(0)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    model = models.build("users_nets:computed(by='spectral_norm')", **HOME)
    assert random.getstate() == before[1] and np.array_equal(np.random.get_state()[1], before[2])
    norm = model.get_submodule("1")
    assert norm.training and int(norm.num_batches_tracked) == 0 and not norm.running_mean.any()
    torch.set_rng_state(before[0])
    import users_nets

    twin = users_nets.computed(**HOME, by="spectral_norm")
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), twin.state_dict().values(), strict=True))


def test_a_model_with_16_bit_weights_is_refused_before_anything_is_done(digits) -> None:
    from lessen import Finetune, Float16, Int8
    from lessen.artifact import pack

    line = r"'conv\.weight' is bfloat16, and Lessen works on float32; call model\.float\(\) first"
    model = Half(**HOME)
    for technique in (Int8(), Float16(), Finetune(epochs=1)):
        with pytest.raises(Refused, match=line):
            technique.apply(model, digits)
    with pytest.raises(Refused, match=line):
        pack(model, digits, "nowhere")
    with pytest.raises(Refused, match=line):
        layers.own(model)
