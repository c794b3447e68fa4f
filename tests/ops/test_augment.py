"""Each batched change against one that goes image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch.nn.functional import cross_entropy

from lessen.ops import augment


def seed(n: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(n)


def noise(n: int, c: int = 3, h: int = 7, w: int = 6) -> torch.Tensor:
    return torch.randint(1, 256, (n, c, h, w), dtype=torch.uint8, generator=seed(9))


@pytest.mark.parametrize(("edge", "mode"), [("reflect", "reflect"), ("zero", "constant")])
def test_crop_is_a_window_of_the_padded_image_and_every_window_comes(edge: str, mode: str) -> None:
    x, pad = noise(2000), 2
    y = augment.crop(x, pad, seed(), edge)
    counts = np.zeros((2 * pad + 1, 2 * pad + 1), int)
    for before, after in zip(x.numpy(), y.numpy(), strict=True):
        around = np.pad(before, ((0, 0), (pad, pad), (pad, pad)), mode=mode)  # type: ignore[call-overload]
        windows = {(i, j): around[:, i : i + 7, j : j + 6] for i in range(5) for j in range(5)}
        counts[next(at for at, window in windows.items() if np.array_equal(window, after))] += 1
    assert counts.sum() == 2000
    assert counts.min() > 45  # 80 expected each, standard deviation 9


@pytest.mark.parametrize("edge", ["reflect", "zero"])
def test_crop_with_mirror_flips_half_of_the_crops(edge: str) -> None:
    x = noise(1000)
    plain, y = augment.crop(x, 2, seed(), edge).numpy(), augment.crop(x, 2, seed(), edge, mirror=True).numpy()
    flipped = [np.array_equal(b, a[:, :, ::-1]) for a, b in zip(plain, y, strict=True)]
    assert all(f or np.array_equal(a, b) for f, a, b in zip(flipped, plain, y, strict=True))
    assert 430 < sum(flipped) < 570


def test_crop_by_nothing_changes_nothing() -> None:
    x = noise(5)
    assert torch.equal(augment.crop(x, 0, seed()), x)
    assert torch.equal(augment.crop(x, 0, seed(), "zero"), x)


def test_flip_mirrors_half_of_the_images() -> None:
    x = noise(1000)
    y = augment.flip(x, seed())
    flipped = [np.array_equal(after, before[:, :, ::-1]) for before, after in zip(x.numpy(), y.numpy(), strict=True)]
    same = [np.array_equal(after, before) for before, after in zip(x.numpy(), y.numpy(), strict=True)]
    assert all(a != b for a, b in zip(flipped, same, strict=True))
    assert 430 < sum(flipped) < 570


@pytest.mark.parametrize("size", [2, 3])
def test_cutout_is_a_clipped_square_about_any_pixel(size: int) -> None:
    x = noise(1500, h=5, w=6)
    y = augment.cutout(x, size, seed())
    holes = {}
    for row in range(5):
        for column in range(6):
            hole = np.zeros((5, 6), bool)
            top, left = row - size // 2, column - size // 2
            hole[max(top, 0) : top + size, max(left, 0) : left + size] = True
            holes[hole.tobytes()] = 0
    assert len(holes) == 30
    for before, after in zip(x.numpy(), y.numpy(), strict=True):
        hole = (after == 0).all(0)
        holes[hole.tobytes()] += 1
        assert np.array_equal(after, np.where(hole, 0, before))
    assert min(holes.values()) > 20  # 50 expected each


def test_cutout_paints_each_channel_in_its_own_colour() -> None:
    y = augment.cutout(noise(4), 40, seed(), torch.tensor([1, 2, 3], dtype=torch.uint8))
    assert [set(y[:, c].flatten().tolist()) for c in range(3)] == [{1}, {2}, {3}]


def test_jitter_agrees_with_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(40, h=16, w=16)
    factors = 0.6 + 0.8 * torch.rand((3, 40, 1, 1, 1), generator=seed(3))
    monkeypatch.setattr(augment, "_uniform", lambda shape, low, high, generator: factors)
    y = augment.jitter(x, 0.4, seed()).numpy()
    for i, before in enumerate(x.numpy()):
        image = Image.fromarray(before.transpose(1, 2, 0))
        steps = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for enhance, factor in zip(steps, factors[:, i].flatten().tolist(), strict=True):
            image = enhance(image).enhance(factor)
        difference = y[i].astype(int) - np.asarray(image).transpose(2, 0, 1)
        assert np.abs(difference).max() <= 4  # Pillow truncates after each of its five steps, this rounds once


def test_jitter_by_hand_on_grey(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([100, 200], dtype=torch.uint8).view(1, 1, 1, 2)
    factors = torch.tensor([1.2, 0.5, 0.0]).view(3, 1, 1, 1, 1)
    monkeypatch.setattr(augment, "_uniform", lambda shape, low, high, generator: factors)
    # 120 and 240, about their mean 180 by half: 150 and 210; no saturation to take away
    assert augment.jitter(x, 0.9, seed()).flatten().tolist() == [150, 210]


def test_jitter_of_strength_zero_changes_nothing() -> None:
    x = noise(8)
    assert torch.equal(augment.jitter(x, 0.0, seed()), x)


def test_mixup_blends_each_sample_with_its_named_partner() -> None:
    x, y = torch.rand(50, 3, 4, 4), torch.arange(50)
    mixed, y_a, y_b, weight = augment.mixup(x, y, 0.7, seed())
    assert torch.equal(y_a, y)
    assert sorted(y_b.tolist()) == y.tolist()
    assert 0 < weight < 1
    for i in range(50):
        torch.testing.assert_close(mixed[i], weight * x[y_a[i]] + (1 - weight) * x[y_b[i]])


def test_mixup_weights_follow_the_beta_law() -> None:
    x, y, generator = torch.zeros(2, 1), torch.zeros(2), seed()
    weights = np.array([augment.mixup(x, y, 0.5, generator)[3] for _ in range(3000)])
    assert abs(weights.mean() - 1 / 2) < 0.03
    assert abs(weights.var() - 1 / (4 * (2 * 0.5 + 1))) < 0.01


def test_cutmix_puts_a_box_of_another_sample_into_each() -> None:
    x = torch.arange(200.0)[:, None, None, None].expand(200, 3, 12, 8)
    mixed, other, kept = augment.cutmix(x, 1.0, seed())
    assert sorted(other.tolist()) == list(range(200))
    for i in range(200):
        box = mixed[i, 0] != i
        assert (mixed[i] == mixed[i, :1]).all() and (mixed[i, 0][box] == other[i]).all()
        if other[i] != i:
            assert kept[i] == pytest.approx(1 - box.float().mean().item(), abs=1e-6)
        rows, columns = box.any(1).nonzero().flatten(), box.any(0).nonzero().flatten()
        assert box.sum() == len(rows) * len(columns)  # one box, without holes
        assert not len(rows) or int(rows[-1] - rows[0]) + 1 == len(rows)
    assert len(kept.unique()) > 30


def test_cutmix_has_boxes_of_every_size_anywhere_in_the_asked_share_of_samples() -> None:
    x = torch.arange(8000.0)[:, None, None, None].expand(8000, 1, 32, 32)
    mixed, other, kept = augment.cutmix(x, 0.25, seed())
    box = mixed[:, 0] == other[:, None, None]
    changed = box.flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.25, abs=0.02)
    # a side s leaves s - s^2/4 within the image on average, and s^2 is even: E[(s - s^2/4)^2] = 1/2 - 1/5 + 1/48
    assert 1 - kept[changed].mean().item() == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.02)
    assert augment.cutmix(x, 0.0, seed())[2].eq(1).all() and torch.equal(augment.cutmix(x, 0.0, seed())[0], x)
    at = box[changed].float().mean(0)
    torch.testing.assert_close(at, at.flip(0), rtol=0, atol=0.06)


def test_loss_is_linear_in_mixed_targets() -> None:
    logits, a, b = torch.randn(6, 4, generator=seed()), torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1] * 6)
    shares = 0.3 * torch.eye(4)[a] + 0.7 * torch.eye(4)[b]
    apart = 0.3 * cross_entropy(logits, a, label_smoothing=0.1) + 0.7 * cross_entropy(logits, b, label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(logits, shares, label_smoothing=0.1), apart)


def test_normalize_is_the_stated_formula() -> None:
    x, mean, std = noise(4), torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.25, 0.3])
    expected = (x.numpy() / 255.0 - mean.numpy().reshape(1, 3, 1, 1)) / std.numpy().reshape(1, 3, 1, 1)
    y = augment.normalize(x, mean, std)
    assert y.dtype == torch.float32
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-5)


CHANGES = {
    "crop": lambda x, g: augment.crop(x, 2, g),
    "flip": augment.flip,
    "cutout": lambda x, g: augment.cutout(x, 3, g),
    "cutmix": lambda x, g: augment.cutmix(x, 0.7, g)[0],
    "jitter": lambda x, g: augment.jitter(x, 0.4, g),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes_follow_the_generator_and_leave_the_input(name: str) -> None:
    x = noise(32)
    kept, before = x.clone(), torch.get_rng_state()
    first, again, other = (CHANGES[name](x, seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8
    assert first.shape == x.shape
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), before)
