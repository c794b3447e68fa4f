"""Where official files come from: a folder, the cache, or the network; read whole and checked by MD5."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

from lessen.core.errors import BadData


def cache() -> Path:
    """$LESSEN_DATA, or ~/.cache/lessen."""
    return Path(os.environ.get("LESSEN_DATA") or "~/.cache/lessen").expanduser()


def find(folder: str, files: Collection[str], data: str = "", places: tuple[str, ...] = ()) -> Path | None:
    """The folder that holds all the files, plain or with .gz: in `data` when given, else cache or `places`.

    files: names, or MD5s by name, which the error then tells. None when it is nowhere. Errors: BadData when `data` is
    given and lacks a file.
    """
    given = Path(data).expanduser()
    roots = [given, given / folder] if data else [cache() / folder, *map(Path, places)]
    for root in roots:
        if all(path_of(root, file) for file in files):
            return root
    if data:
        root = roots[1] if roots[1].is_dir() else given
        md5s = files if isinstance(files, Mapping) else {}
        told = {file: f"{file} (MD5 {md5s[file]})" if file in md5s else file for file in files}
        missing = ", ".join(text for file, text in told.items() if not path_of(root, file))
        raise BadData(f"{root} lacks {missing}; data= names the folder that holds {folder}'s files")
    return None


def path_of(root: Path, file: str) -> Path | None:
    """The file in that folder, plain before compressed."""
    return next((p for p in (root / file, root / f"{file}.gz") if p.is_file()), None)


def read(path: Path, md5: str | None) -> bytes:
    """The file's content, unpacked when it ends in .gz; its MD5 must be the given one. Errors: BadData."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise BadData(f"{path} is truncated or no gzip file ({e}); fetch it again") from e
    except OSError as e:
        raise BadData(f"cannot read {path}: {e.strerror or e}") from e
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise BadData(
            f"{path} is truncated or altered: its MD5 is {found}, expected {md5}; "
            "fetch it again, or give verify=False if you changed it on purpose"
        )
    return content


def download(url: str, md5: str, folder: Path) -> None:
    """Fetch a file into the folder and check it; a .tar.gz is unpacked there. Errors: BadData."""
    import pooch

    unpack = pooch.Untar(extract_dir=".") if url.endswith(".tar.gz") else None
    try:
        pooch.retrieve(url, known_hash=f"md5:{md5}", fname=url.rpartition("/")[2], path=folder, processor=unpack)
    except (OSError, ValueError) as e:  # no network, no such page, a full disk; another checksum
        raise BadData(
            f"cannot download {url} ({type(e).__name__}); bring it to {folder} yourself, or give data='FOLDER'"
        ) from e
