"""What every image task keeps: disjoint stratified splits, a fingerprint, and the caller's state."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lessen.core.errors import BadData, BadField
from lessen.core.task import SplitName
from lessen.tasks.dataset import Images, Settings
from lessen.tasks.images import ImageTask

NAMES: tuple[SplitName, ...] = ("train", "validation", "test", "calibration")


def rows(task: ImageTask, name: SplitName) -> set[bytes]:
    return {row.numpy().tobytes() for row in task.split(name).x}


def sizes(task: ImageTask) -> list[int]:
    return [len(task.split(name)) for name in NAMES]


def shares(task: ImageTask, name: SplitName) -> list[int]:
    return torch.bincount(task.split(name).y, minlength=3).tolist()


def test_splits_are_disjoint_and_complete(images: Images) -> None:
    task = ImageTask(images)
    train, validation, test = (rows(task, name) for name in NAMES[:3])
    assert not train & validation and not train & test and not validation & test
    assert train | validation == {row.tobytes() for row in images.x}
    assert rows(task, "calibration") < train
    assert sizes(task) == [240, 60, 60, 60]


def test_splits_are_stratified(images: Images) -> None:
    task = ImageTask(images)
    assert shares(task, "train") == [120, 80, 40]
    assert shares(task, "validation") == [30, 20, 10]
    assert shares(task, "calibration") == [30, 20, 10]


def test_images_keep_their_labels(images: Images) -> None:
    label = {x.tobytes(): y for x, y in zip(images.x, images.y, strict=True)}
    task = ImageTask(images)
    for name in ("train", "validation", "calibration"):
        x, y = task.split(name)
        assert [label[row.numpy().tobytes()] for row in x] == y.tolist()


def test_same_seed_same_splits_other_seed_others(images: Images) -> None:
    first, again, other = (ImageTask(images, Settings(seed=s)) for s in (1, 1, 2))
    assert torch.equal(first.split("train").x, again.split("train").x)
    assert rows(first, "validation") != rows(other, "validation")
    assert torch.equal(first.split("test").x, other.split("test").x)  # given, not drawn


def test_sizes_follow_the_arguments(images: Images) -> None:
    assert sizes(ImageTask(images, Settings(validation=24)))[:2] == [276, 24]
    assert sizes(ImageTask(images, Settings(validation=0)))[:2] == [300, 0]
    limited = ImageTask(images, Settings(limit=48))
    assert sizes(limited) == [48, 60, 60, 12]
    assert shares(limited, "train") == [24, 16, 8]
    assert rows(limited, "validation") == rows(ImageTask(images), "validation")


def test_final_trains_on_train_and_validation_and_says_so(images: Images) -> None:
    task = ImageTask(images, Settings(final=True))
    assert task.final and task.text == "images(final=True)"
    assert sizes(task) == [300, 0, 60, 75]
    assert rows(task, "train") == rows(ImageTask(images), "train") | rows(ImageTask(images), "validation")
    assert task.evaluate(nn.Flatten(), "validation") is None
    assert task.fingerprint != ImageTask(images).fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"validation": 50}, {"limit": 60}, {"crop": 2}, {"flip": True}, {"cutout": 3},
        {"jitter": 0.1}, {"mixup": 0.2}, {"cutmix": 0.5}, {"edge": "zero"}, {"jittered": 0.1},
    ],
)  # fmt: skip
def test_fingerprint_changes_with_every_setting(images: Images, change: dict[str, Any]) -> None:
    base = ImageTask(images)
    assert ImageTask(images).fingerprint == base.fingerprint
    assert len(base.fingerprint) == 64
    assert ImageTask(images, Settings(**change)).fingerprint != base.fingerprint


@pytest.mark.parametrize("part", ["x", "y", "test_x", "test_y"])
def test_fingerprint_changes_with_one_value_of_the_data(images: Images, part: str) -> None:
    values = getattr(images, part).copy()
    values.flat[0] = (values.flat[0] + 1) % 3
    assert ImageTask(replace(images, **{part: values})).fingerprint != ImageTask(images).fingerprint


def test_fingerprint_changes_with_class_names(images: Images) -> None:
    renamed = replace(images, classes=("cat", "dog", "owl"))
    assert ImageTask(renamed).fingerprint != ImageTask(images).fingerprint


def test_normalization_comes_from_the_training_split(images: Images) -> None:
    task = ImageTask(images)
    x = task.split("train").x.numpy().astype(np.float64) / 255
    np.testing.assert_allclose(task.mean.numpy(), x.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(task.std.numpy(), x.std((0, 2, 3)), rtol=1e-6)
    y = task.inputs(task.split("train").x)
    assert y.dtype == torch.float32
    assert y.mean((0, 2, 3)).abs().max() < 1e-5
    assert (y.std((0, 2, 3)) - 1).abs().max() < 1e-3


def test_preprocess_says_what_inputs_does(images: Images) -> None:
    task = ImageTask(images)
    said, x = task.preprocess(), task.split("test").x
    mean, std = (np.array(said[k]).reshape(1, 3, 1, 1) for k in ("mean", "std"))
    np.testing.assert_allclose(task.inputs(x).numpy(), (x.numpy() / 255 - mean) / std, atol=1e-5)


def test_a_constant_channel_is_no_division_by_zero(images: Images) -> None:
    x = images.x.copy()
    x[:, 1] = 7
    task = ImageTask(replace(images, x=x))
    assert task.inputs(task.split("train").x)[:, 1].abs().max() < 1e-6


def test_augment_without_options_is_inputs(images: Images) -> None:
    task = ImageTask(images)
    x = task.split("train").x
    assert torch.equal(task.augment(x, torch.Generator()), task.inputs(x))


def test_augment_does_what_the_settings_say(images: Images) -> None:
    x = torch.from_numpy(images.x)
    for change in ({"crop": 2}, {"flip": True}, {"cutout": 3}, {"jitter": 0.3}):
        task = ImageTask(images, Settings(**change))
        first, again = (task.augment(x, torch.Generator().manual_seed(5)) for _ in range(2))
        assert torch.equal(first, again)
        assert first.dtype == torch.float32 and first.shape == x.shape
        assert not torch.equal(first, task.inputs(x))


def test_jittered_changes_what_is_scored_once_and_nothing_else(images: Images) -> None:
    plain, task, again = (ImageTask(images, Settings(jittered=j, validation=20)) for j in (0.0, 0.5, 0.5))
    for name in ("train", "calibration"):
        assert torch.equal(task.split(name).x, plain.split(name).x)
    for name in ("validation", "test"):
        x, y = task.split(name)
        assert torch.equal(x, again.split(name).x) and torch.equal(y, plain.split(name).y)
        changed = (x != plain.split(name).x).flatten(1).any(1)
        assert x.dtype == torch.uint8 and changed.double().mean() > 0.9
    assert torch.equal(task.mean, plain.mean)
    final = ImageTask(images, Settings(jittered=0.5, validation=20, final=True))
    assert torch.equal(final.split("test").x, task.split("test").x) and not len(final.split("validation"))


def test_mix_gives_shares_that_loss_takes(images: Images) -> None:
    x, y = torch.randn(12, 3, 8, 8), torch.arange(12) % 3
    assert ImageTask(images).mix(x, y, torch.Generator())[1] is y
    task = ImageTask(images, Settings(mixup=0.4))
    mixed, shares = task.mix(x, y, torch.Generator().manual_seed(0))
    torch.testing.assert_close(shares.sum(1), torch.ones(12))
    assert not torch.equal(mixed, x)
    assert task.loss(torch.zeros(12, 3), shares).item() == pytest.approx(np.log(3))


def test_cutmix_gives_each_class_its_share_of_the_pixels(images: Images) -> None:
    y = torch.arange(30) % 3
    x = y.float()[:, None, None, None].expand(30, 3, 8, 8)  # each pixel shows its class
    mixed, shares = ImageTask(images, Settings(cutmix=0.5)).mix(x, y, torch.Generator().manual_seed(0))
    for k in range(3):
        torch.testing.assert_close(shares[:, k], (mixed[:, 0] == k).flatten(1).float().mean(1))
    assert 5 < (shares.amax(1) < 1).sum() < 25


def test_cutmix_behind_mixup_blends_what_is_blended(images: Images) -> None:
    x = torch.eye(3)[torch.arange(30) % 3][:, :, None, None].expand(30, 3, 8, 8)  # each channel shows a class's share
    task = ImageTask(images, Settings(mixup=0.4, cutmix=1.0))
    mixed, shares = task.mix(x, torch.arange(30) % 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(shares, mixed.mean((2, 3)))
    assert len(shares.unique()) > 20


class Known(nn.Module):
    """Answers class 0 always, and remembers how it was run."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.BatchNorm2d(3).eval()
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((len(x), self.training, torch.is_inference_mode_enabled()))
        return torch.tensor([[2.0, 1.0, 0.0]]).expand(len(x), 3)


def test_evaluate_is_accuracy_and_leaves_the_model(images: Images) -> None:
    model, task = Known(), ImageTask(images, Settings(validation=0))
    assert task.evaluate(model, "test") == pytest.approx(0.5)
    assert task.evaluate(model, "train") == pytest.approx(0.5)
    assert model.seen == [(60, False, True), (256, False, True), (44, False, True)]
    assert model.training and not model.frozen.training


def test_loss_and_score_by_hand(images: Images) -> None:
    task, logits = ImageTask(images), torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    expected = -(2 - np.log(np.exp(2) + 2) + 0 - np.log(np.e + 2)) / 2
    assert task.loss(logits, torch.tensor([0, 1])).item() == pytest.approx(expected, rel=1e-6)
    assert task.score(logits, torch.tensor([0, 1])) == 0.5


def test_seeded_repeats_and_gives_the_callers_state_back(images: Images) -> None:
    def draws() -> tuple[float, float, float]:
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    task = ImageTask(images)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with task.seeded(5):
        first = draws()
    with pytest.raises(KeyError), task.seeded(5):
        assert draws() == first
        raise KeyError
    with task.seeded(6):
        assert draws() != first
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


def linear(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))


def test_build_copy_and_cost(images: Images) -> None:
    task = ImageTask(images)
    model = task.build(f"{__name__}:linear")
    assert model(task.inputs(task.split("test").x)).shape == (60, 3)
    assert task.cost(model).parameters == 192 * 3 + 3
    assert task.cost(model).macs == 192 * 3
    twin = task.copy(model)
    with torch.no_grad():
        twin[1].weight.zero_()
    assert model[1].weight.abs().sum() > 0


def test_bad_data_is_named(images: Images) -> None:
    with pytest.raises(BadData, match=r"training images are float64 .* expected uint8"):
        ImageTask(replace(images, x=images.x / 255))
    with pytest.raises(BadData, match=r"test labels are .* expected one integer for each of 60 images"):
        ImageTask(replace(images, test_y=images.test_y[:-1]))
    with pytest.raises(BadData, match="training labels must be there and lie in 0 to 1"):
        ImageTask(replace(images, classes=("cat", "dog")))
    with pytest.raises(BadData, match="class 'fox' has no training image left"):
        ImageTask(replace(images, classes=("cat", "dog", "elk", "fox")))
    with pytest.raises(BadData, match=r"class 'dog' has no .* or raise limit"):
        ImageTask(replace(images, y=np.resize([0] * 99 + [1, 2], 300)), Settings(limit=4))
    with pytest.raises(BadField, match=r"images\.validation = 300 leaves no training image; there are 300"):
        ImageTask(images, Settings(validation=300))
    with pytest.raises(BadField, match=r"images\.crop = 8 is too far for images of 8 px"):
        ImageTask(images, Settings(crop=8))


def test_read_only_arrays_are_taken(images: Images) -> None:
    for part in (images.x, images.y, images.test_x, images.test_y):
        part.flags.writeable = False
    assert sizes(ImageTask(images)) == [240, 60, 60, 60]


def test_two_images_still_calibrate_and_one_class_is_told() -> None:
    x, y = np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    task = ImageTask(Images(x[:2], y[:2], x, y, classes=("a", "b")), Settings(validation=0))
    assert sizes(task) == [2, 0, 4, 1]
    with pytest.raises(BadData, match="nothing to tell apart: 1 class; give two or more"):
        ImageTask(Images(x, 0 * y, x, 0 * y, classes=("a",)), Settings())
