"""The quick CIFAR-100 net: what whitening does, how it starts, what is frozen and what it computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lessen import models
from lessen.core.errors import BadField
from lessen.models.fast75 import haar, prepare, whitening
from lessen.ops import structure
from lessen.ops.cost import macs
from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask


def images(n: int = 64, channels: int = 3, side: int = 16) -> torch.Tensor:
    """Smooth, correlated noise with a mean."""
    noise = torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(0))
    return nn.functional.avg_pool2d(noise, 3, 1, 1) * 2 + noise.mean(1, keepdim=True) + 0.3


def test_whitened_patches_have_the_identity_as_second_moments() -> None:
    x = images()
    weight = whitening(x, eps=0)
    assert weight.shape == (24, 3, 2, 2)
    y = nn.functional.conv2d(x, weight)[:, :12].transpose(0, 1).reshape(12, -1)
    torch.testing.assert_close(y @ y.T / y.shape[1], torch.eye(12), rtol=0, atol=1e-4)
    torch.testing.assert_close(weight[12:], -weight[:12])


def test_epsilon_tames_directions_without_variance() -> None:
    weight = whitening(torch.zeros(2, 1, 4, 4), eps=1e-4)
    torch.testing.assert_close(weight.flatten(1).norm(dim=1), torch.full((8,), 100.0))


def test_haar_is_orthonormal_and_used_without_data() -> None:
    basis = haar(2)[:8].flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(8))
    assert torch.equal(models.build("fast75").stem.weight.detach(), haar(3))  # type: ignore[union-attr]


def test_prepare_sets_the_stem_and_nothing_else() -> None:
    model, x = models.build("fast75(width=0.1)"), images()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    prepare(model, x)
    after = model.state_dict()
    assert torch.equal(after["stem.weight"], whitening(x))
    assert [k for k in after if not torch.equal(after[k], before[k])] == ["stem.weight"]
    for wrong, given in ((models.build("resnet8"), x), (model, images(channels=1))):
        with pytest.raises(BadField, match="only an untouched fast75"):
            prepare(wrong, given)


def test_convolutions_start_as_copies() -> None:
    stage = models.build("fast75").stages[1]  # type: ignore[index]
    x = torch.randn(1, 64, 5, 5)
    torch.testing.assert_close(stage.conv1(x)[:, :64], x)  # type: ignore[union-attr,operator]


def test_whitening_and_norm_scales_stay_frozen_through_a_round_trip() -> None:
    model = models.build("fast75(width=0.1)")
    frozen = {k for k, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"stem.weight", *(f"stages.{s}.norm{i}.weight" for s in range(3) for i in (1, 2))}
    fresh = models.rebuild(model.builder)  # type: ignore[arg-type]
    restored = structure.restore(fresh, {}, structure.tensors(model))
    assert {k for k, p in restored.named_parameters() if not p.requires_grad} == frozen


def test_multiply_accumulates_by_hand() -> None:
    def by_hand(side: int) -> int:
        a, b, c, d = side - 1, (side - 1) // 2, (side - 1) // 4, (side - 1) // 8
        stages = 9 * (24 * 64 * a * a + (64 * 64 + 64 * 256) * b * b + (256 * 256 + 256 * 768) * c * c)
        return 12 * 24 * a * a + stages + 9 * 768 * 768 * d * d + 768 * 100

    with torch.device("meta"):
        model = models.build("fast75")
        counted = {side: macs(model, torch.zeros(1, 3, side, side)) for side in (20, 24, 32)}
    assert counted == {side: by_hand(side) for side in counted}
    assert [round(n / 1e6) for n in counted.values()] == [79, 110, 218]
    flop = 8.75 * 50_000 * sum(counted.values()) / 3 * 2 * 3  # thirds; 2 per multiply-accumulate; forward, 2 backward
    assert flop == pytest.approx(0.356e15, rel=0.01)


def test_logits_are_tamed_and_sizes_mix() -> None:
    torch.manual_seed(0)
    model = models.build("fast75").train()
    for side in (20, 24, 32):
        with torch.no_grad():
            y = model(torch.randn(4, 3, side, side))
        assert y.shape == (4, 100)
        assert 1e-3 < float(y.std()) < 1


def test_a_task_builds_it_whitened_by_its_training_images():
    x, y = np.random.default_rng(0).integers(0, 256, (64, 3, 32, 32), np.uint8), np.arange(64) % 4
    task = ImageTask(Images(x, y, x[:8], y[:8], classes=tuple("abcd")), Settings(validation=8))
    model = task.build("fast75(width=0.1)")
    expected = whitening(task.inputs(task.split("train").x))
    assert torch.allclose(model.stem.weight, expected)  # type: ignore[arg-type]
    assert not model.stem.weight.requires_grad  # type: ignore[union-attr]


def test_two_views_average_the_answers_to_the_image_and_its_mirror_image_but_in_training() -> None:
    one, two = models.build("fast75(width=0.1)"), models.build("fast75(width=0.1, views=2)")
    two.load_state_dict(one.state_dict())
    x = images(5)
    with torch.no_grad():
        torch.testing.assert_close(two.eval()(x), (one.eval()(x) + one(x.flip(3))) / 2)
        torch.testing.assert_close(two(x), two(x.flip(3)))
        assert torch.equal(two.train()(x), one.train()(x))
    assert macs(two.eval(), x[:1]) == 2 * macs(one.eval(), x[:1])
    assert models.rebuild(two.builder).views == 2  # type: ignore[arg-type, union-attr]
