"""The user's own images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lessen.core.errors import BadData, BadField
from lessen.tasks import task
from lessen.tasks.folder import Folder, _read


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


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif", "big.tif", "ramp.pgm"])
def test_grey_of_16_bits_is_read_like_that_of_8(tmp_path: Path, name: str) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint16), 256).reshape(256, 256) * 257
    file = tmp_path / name
    if name == "ramp.pgm":
        file.write_bytes(b"P5 256 256 65535\n" + ramp.astype(">u2").tobytes())
    elif name == "big.tif":
        Image.frombytes("I;16B", ramp.shape, ramp.astype(">u2").tobytes()).save(file)
    else:
        Image.fromarray(ramp).save(file)
    Image.fromarray((ramp // 257).astype(np.uint8)).save(tmp_path / "eight.png")
    np.testing.assert_array_equal(_read(file, 64), _read(tmp_path / "eight.png", 64))
    assert _read(file, 64).mean() == pytest.approx(127.5, abs=1)


def test_16_bits_are_rounded(tmp_path: Path) -> None:
    for value, expected in ((0, 0), (128, 0), (129, 1), (65406, 254), (65407, 255), (65535, 255)):
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(tmp_path / "flat.png")
        assert set(_read(tmp_path / "flat.png", 8).flat) == {expected}


@pytest.mark.parametrize(("kind", "told"), [("int32", "32-bit or signed whole numbers"), ("float32", "floats")])
def test_grey_without_a_known_white_is_refused_with_the_mend(tmp_path: Path, kind: str, told: str) -> None:
    Image.fromarray(np.full((8, 8), 300, kind)).save(tmp_path / "x.tif")
    with pytest.raises(BadData) as caught:
        _read(tmp_path / "x.tif", 8)
    assert str(caught.value) == (
        f"the image {tmp_path / 'x.tif'} holds {told}, whose white is not known; save it with 8 or 16 bits"
    )


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
