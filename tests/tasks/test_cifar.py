"""CIFAR's official pickles: read, checked, never run."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from lessen.core.errors import BadData
from lessen.tasks import cifar, task


def made_up(name: str, folder: Path) -> Any:
    return task(f"{name}(data={str(folder)!r}, verify=False)")


@pytest.mark.parametrize(("name", "n", "classes"), [("cifar10", 1000, 10), ("cifar100", 200, 100)])
def test_reads_the_official_format(cifar_folder: Path, name: str, n: int, classes: int) -> None:
    found = made_up(name, cifar_folder)
    assert found.shape == (3, 32, 32)
    assert len(found.split("train")) + len(found.split("validation")) == n
    assert len(found.split("test")) == 100
    assert found.classes[:2] == ("class 0", "class 1")
    assert len(found.classes) == classes


def test_planes_are_red_green_blue(cifar_folder: Path) -> None:
    path = cifar_folder / "cifar-100-python" / "test"
    content = pickle.loads(path.read_bytes())
    row = content[b"data"][7]
    x = made_up("cifar100", cifar_folder).split("test").x[7]
    assert x[0, 0, 1] == row[1] and x[1, 0, 0] == row[1024] and x[2, 31, 31] == row[3071]


def test_folder_may_be_the_inner_or_the_outer_one(cifar_folder: Path) -> None:
    outer, inner = made_up("cifar100", cifar_folder), made_up("cifar100", cifar_folder / "cifar-100-python")
    assert outer.fingerprint == inner.fingerprint
    assert outer.text != inner.text


def test_cache_is_searched(cifar_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESSEN_DATA", str(cifar_folder))
    assert len(task("cifar100(verify=False)").split("test")) == 100


def test_another_checksum_is_named(cifar_folder: Path) -> None:
    path = cifar_folder / "cifar-100-python" / "train"
    found = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(BadData, match=f"{path} .*MD5 is {found}, expected {cifar.CIFAR100.files['train']}; fetch"):
        task(f"cifar100(data={str(cifar_folder)!r})")


def test_right_checksums_pass(cifar_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in cifar.CIFAR100.files:
        content = (cifar_folder / "cifar-100-python" / file).read_bytes()
        monkeypatch.setitem(cifar.CIFAR100.files, file, hashlib.md5(content).hexdigest())
    checked = task(f"cifar100(data={str(cifar_folder)!r})")
    assert checked.fingerprint == made_up("cifar100", cifar_folder).fingerprint


def test_a_truncated_file_is_named(cifar_folder: Path) -> None:
    path = cifar_folder / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadData, match="data_batch_3"):
        made_up("cifar10", cifar_folder)
    with pytest.raises(BadData, match="is truncated or altered"):
        task(f"cifar10(data={str(cifar_folder)!r})")


def test_a_missing_file_is_named_with_its_checksum(cifar_folder: Path) -> None:
    md5 = cifar.CIFAR10.files["test_batch"]
    (cifar_folder / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(BadData, match=rf"cifar-10-batches-py lacks test_batch \(MD5 {md5}\); data= names the folder"):
        made_up("cifar10", cifar_folder)


class Evil:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.flag,)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_that_would_run_code_is_refused(cifar_folder: Path, tmp_path: Path, protocol: int) -> None:
    path, flag = cifar_folder / "cifar-100-python" / "train", tmp_path / "flag"
    path.write_bytes(pickle.dumps({b"data": Evil(flag)}, protocol))
    with pytest.raises(BadData, match=r"cannot read .*train.* it asks for .*; nothing of it was run"):
        made_up("cifar100", cifar_folder)
    assert not flag.exists()
    pickle.loads(path.read_bytes())
    assert flag.exists()  # the ordinary reader does run it


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds a list, expected a dict"),
        ({b"data": b"", b"coarse_labels": []}, "lacks 'fine_labels'; it has data, coarse_labels"),
        ({b"data": [1], b"fine_labels": [1]}, "is no CIFAR batch"),
    ],
)
def test_another_pickle_is_named(cifar_folder: Path, content: Any, says: str) -> None:
    (cifar_folder / "cifar-100-python" / "train").write_bytes(pickle.dumps(content))
    with pytest.raises(BadData, match=says):
        made_up("cifar100", cifar_folder)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def site(cifar_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The archive served on this machine in place of the official address."""
    folder = tmp_path / "site"
    folder.mkdir()
    archive = folder / cifar.CIFAR100.archive
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar_folder / "cifar-100-python", "cifar-100-python")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cifar, "URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(cifar.Cifar100, "layout", replace(cifar.CIFAR100, md5=md5))
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloads_once_into_the_cache(site: Path, cifar_folder: Path, empty_cache: Path) -> None:
    first = task("cifar100(verify=False)")
    assert (empty_cache / "cifar-100-python" / "train").is_file()
    (site / cifar.CIFAR100.archive).unlink()
    assert task("cifar100(verify=False)").fingerprint == first.fingerprint
    assert torch.equal(first.split("test").x, made_up("cifar100", cifar_folder).split("test").x)


def test_an_altered_download_is_refused(site: Path, empty_cache: Path) -> None:
    (site / cifar.CIFAR100.archive).write_bytes(b"something else")
    with pytest.raises(BadData, match=r"cannot download http.*cifar-100-python\.tar\.gz \(ValueError\)"):
        task("cifar100")
    assert not (empty_cache / "cifar-100-python").exists()


def test_without_a_network_the_message_says_where_to_put_the_file(site: Path, empty_cache: Path) -> None:
    (site / cifar.CIFAR100.archive).unlink()
    with pytest.raises(BadData, match=rf"\(HTTPError\); bring it to {empty_cache} yourself, or give data='FOLDER'"):
        task("cifar100")
