"""scikit-learn's digits as a task."""

from __future__ import annotations

import torch

from lessen.tasks import task


def test_half_of_the_scans_are_the_test_split() -> None:
    digits = task("digits")
    sizes = [len(digits.split(name)) for name in ("train", "validation", "test", "calibration")]
    assert sizes == [720, 179, 898, 180]
    assert digits.shape == (1, 8, 8)
    assert digits.classes == tuple("0123456789")
    assert digits.license.startswith("CC BY 4.0")


def test_levels_become_bytes() -> None:
    x = task("digits").split("train").x
    assert x.dtype == torch.uint8
    assert sorted(x.unique().tolist()) == [round(level * 255 / 16) for level in range(17)]


def test_test_split_is_stratified_and_drawn_by_the_seed() -> None:
    first, other = task("digits"), task("digits(seed=1)")
    whole = sum(torch.bincount(first.split(name).y) for name in ("train", "validation", "test"))
    half = torch.bincount(first.split("test").y)
    assert (half - whole / 2).abs().max() <= 1
    assert not torch.equal(first.split("test").x, other.split("test").x)
    assert first.fingerprint != other.fingerprint


def test_scans_are_in_one_split_only() -> None:
    digits = task("digits")
    parts = [{row.numpy().tobytes() for row in digits.split(name).x} for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 1797  # no two scans are equal
