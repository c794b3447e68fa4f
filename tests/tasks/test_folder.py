"""The user's own images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lessen.core.errors import BadData, BadField
from lessen.tasks import task
from lessen.tasks.folder import Folder


def load(root: Path, **fields: int) -> str:
    return f"folder(path={str(root)!r}{''.join(f', {k}={v}' for k, v in fields.items())})"


def test_one_folder_a_class(pets: Path) -> None:
    found = task(load(pets, size=16))
    assert found.classes == ("cat", "dog", "elk")
    assert found.shape == (3, 16, 16)
    assert [len(found.split(name)) for name in ("train", "validation", "test")] == [32, 8, 10]
    assert np.bincount(found.split("test").y).tolist() == [4, 4, 2]
    assert found.text == f"folder(path={str(pets)!r}, size=16)"


def test_order_and_place_do_not_matter(pets: Path, tmp_path: Path) -> None:
    shutil.copytree(pets, tmp_path / "moved")
    first, moved = task(load(pets)), task(load(tmp_path / "moved"))
    assert first.fingerprint == moved.fingerprint
    assert first.fingerprint != task(load(pets, seed=1)).fingerprint
    assert first.fingerprint != task(load(pets, size=24)).fingerprint


def test_images_are_cut_to_a_square_and_resized(tmp_path: Path) -> None:
    for name, value in (("dark", 10), ("light", 240)):
        (tmp_path / name).mkdir()
        pixels = np.full((8, 20, 3), 99, np.uint8)
        pixels[:, 2:18] = (value, 0, 0)  # the centred square, 6:14, and what the filter reaches
        for i in range(10):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    images = Folder(path=str(tmp_path), size=4).load()
    assert images.x.dtype == np.uint8
    assert set(images.x[images.y == 0][:, 0].flat) == {10}
    assert set(images.x[images.y == 1][:, 0].flat) == {240}
    assert set(images.x[:, 1:].flat) == {0}


def test_one_class_is_no_task(pets: Path) -> None:
    shutil.rmtree(pets / "dog")
    shutil.rmtree(pets / "elk")
    with pytest.raises(BadData, match=f"{pets} has only one class, 'cat'; put the images of each of at least two"):
        task(load(pets))


def test_a_class_without_images_is_named(pets: Path) -> None:
    (pets / "fox").mkdir()
    (pets / "fox" / "notes.txt").write_text("none yet")
    with pytest.raises(BadData, match=rf"{pets / 'fox'} has no image; .*\.jpg"):
        task(load(pets))


@pytest.mark.parametrize("keep", [0, 9, 200])
def test_an_unreadable_image_is_named(pets: Path, keep: int) -> None:
    path = pets / "dog" / "00.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadData, match=f"cannot read the image {path}: .*; mend it or take it away"):
        task(load(pets))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=f"there is no folder {tmp_path / 'none'}; path= names a folder"):
        task(load(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadData, match="has no class folder"):
        task(load(tmp_path / "empty"))


def test_arguments_are_checked(pets: Path) -> None:
    with pytest.raises(BadField, match="folder lacks its field 'path'"):
        task("folder()")
    with pytest.raises(BadField, match=r"folder\.size = 3 is out of its range 4 to 512"):
        task(load(pets, size=3))
