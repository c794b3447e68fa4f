"""Study files: where they lie, what the ready ones are called, and their YAML, in which no key may stand twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from lessen.core.errors import BadField, BadStudy, UnknownName

READY = Path(__file__).parent / "ready"


def names() -> tuple[str, ...]:
    """The ready studies."""
    return tuple(sorted(file.stem for file in READY.glob("*.yaml")))


def path(source: str | Path) -> Path:
    """Of a study by its file or by the name of a ready one. Errors: UnknownName."""
    found = Path(source)
    if found.suffix or found.is_file():
        return found
    if str(source) not in names():
        raise UnknownName("study", str(source), names(), "or give a YAML file")
    return READY / f"{source}.yaml"


def text(file: Path) -> str:
    """The file with its comments, to copy and edit. Errors: BadStudy."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadStudy(f"there is no study file {file}; ready studies: {', '.join(names())}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise BadStudy(f"cannot read {file}: {getattr(e, 'strerror', None) or e}") from None


def load(file: Path) -> dict[str, Any]:
    """The fields of a study. Errors: BadStudy."""
    try:
        found = yaml.load(text(file), Loader=_Once)
    except yaml.YAMLError as e:
        raise BadStudy(f"{file} is no YAML: {' '.join(str(e).split())}") from None
    if not isinstance(found, dict):
        raise BadStudy(f"{file} is no study; write name:, task:, model: and recipes:")
    return {str(key): value for key, value in found.items()}


def seeds(text: str) -> tuple[int, ...]:
    """Read "0,1,2". Errors: BadField."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise BadField(f"seeds '{text}' are no numbers; write for example 0,1,2")
    return tuple(map(int, parts))


class _Once(yaml.SafeLoader):
    """PyYAML lets the last of two equal keys win, which would lose an arm of a comparison without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"'{twice}' stands twice, again {node.start_mark}")
        return super().construct_mapping(node, deep)
