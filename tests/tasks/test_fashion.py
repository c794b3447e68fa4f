"""Fashion-MNIST's idx files, plain and compressed."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from lessen.core.errors import BadData
from lessen.tasks import fashion, source, task

TRAIN = "train-images-idx3-ubyte"


def made_up(folder: Path) -> str:
    return f"fashion(data={str(folder)!r}, verify=False)"


def test_reads_plain_and_compressed_files(fashion_folder: Path) -> None:
    found = task(made_up(fashion_folder))
    assert found.shape == (1, 28, 28)
    assert [len(found.split(name)) for name in ("train", "validation", "test")] == [160, 40, 50]
    assert found.classes[9] == "Ankle boot"
    assert found.license.startswith("MIT")


def test_idx_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "two-by-three"
    path.write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 11, 12, 13, 14, 15]))
    assert fashion.read_idx(path).tolist() == [[10, 11, 12], [13, 14, 15]]


def test_debian_folder_is_searched_after_the_cache(
    fashion_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion, "DEBIAN", str(fashion_folder))
    assert len(task("fashion(verify=False)").split("test")) == 50
    monkeypatch.setenv("LESSEN_DATA", str(tmp_path))
    assert source.find(fashion.FOLDER, fashion.FILES, places=("elsewhere",)) == fashion_folder


def test_another_checksum_is_named(fashion_folder: Path) -> None:
    path = fashion_folder / f"{TRAIN}.gz"
    found = hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest()
    with pytest.raises(BadData, match=f"{path} .*MD5 is {found}, expected {fashion.FILES[TRAIN][0]}"):
        task(f"fashion(data={str(fashion_folder)!r})")


def test_checksum_is_of_the_content_however_it_is_packed(fashion_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in fashion.FILES:
        path = source.path_of(fashion_folder, file)
        assert path is not None
        content = gzip.decompress(path.read_bytes()) if path.suffix else path.read_bytes()
        monkeypatch.setitem(fashion.FILES, file, (hashlib.md5(content).hexdigest(), ""))
        path.unlink()
        (fashion_folder / f"{file}.gz").write_bytes(gzip.compress(content, 1, mtime=7))
    assert len(task(f"fashion(data={str(fashion_folder)!r})").split("test")) == 50


def test_truncated_files_are_named(fashion_folder: Path) -> None:
    packed, plain = fashion_folder / f"{TRAIN}.gz", fashion_folder / "t10k-images-idx3-ubyte"
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-50])
    with pytest.raises(BadData, match=rf"{packed} is truncated or no gzip file"):
        task(made_up(fashion_folder))
    packed.write_bytes(whole)
    plain.write_bytes(plain.read_bytes()[:-1])
    with pytest.raises(BadData, match=f"{plain} is truncated: 39215 bytes, expected 39216"):
        task(made_up(fashion_folder))


def test_another_kind_of_file_is_named(fashion_folder: Path) -> None:
    (fashion_folder / "t10k-labels-idx1-ubyte").write_bytes(b"<html>not found</html>")
    with pytest.raises(BadData, match="t10k-labels-idx1-ubyte is no idx file of bytes: it begins with b'<htm'"):
        task(made_up(fashion_folder))


def test_a_missing_file_is_named(fashion_folder: Path) -> None:
    (fashion_folder / f"{TRAIN}.gz").unlink()
    with pytest.raises(BadData, match=rf"{fashion_folder} lacks {TRAIN} \(MD5 \w{{32}}\); data= names the folder"):
        task(made_up(fashion_folder))


def test_downloads_the_four_files_with_their_checksums(
    fashion_folder: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(url: str, md5: str, folder: Path) -> None:
        asked.append((url.removeprefix(fashion.URL), md5, folder))
        folder.mkdir(parents=True, exist_ok=True)
        values = np.resize(np.arange(10), (30, 28, 28) if "images" in url else 30).astype(np.uint8)
        head = bytes([0, 0, 8, values.ndim]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
        (folder / url.rpartition("/")[2]).write_bytes(gzip.compress(head + values.tobytes()))

    monkeypatch.setattr(source, "download", fetch)
    task("fashion(verify=False)")
    assert asked == [(f"{file}.gz", md5, empty_cache / fashion.FOLDER) for file, (_, md5) in fashion.FILES.items()]
