"""The code and the files that a step's outcome depends on, as hashes."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

import lessen
from lessen.core.technique import Folder, Technique
from lessen.core.text import parse_call
from lessen.models.state import STRUCTURE, WEIGHTS

MODULE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*(\(|$)")  # package.module:function


def digest(*parts: Any) -> str:
    """32 hex digits over all parts, each kept apart from the next."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


@cache
def rooms(*names: str) -> str:
    """Hash of all source files of these rooms."""
    home = Path(lessen.__file__).parent
    files = sorted(f for name in names for f in (home / name).rglob("*.py"))
    return digest(*[(str(f.relative_to(home)), hashed([f])) for f in files])


@cache
def code_hash(kind: type) -> str:
    """Hash of the file that a class is written in, and of what it imports of its own package and the user's folders."""
    try:
        return digest(hashed([Path(inspect.getfile(kind))]), hashed(own_files(kind.__module__)))
    except (TypeError, OSError):  # typed into a shell: there is no file
        return kind.__qualname__


def named_models(technique: Technique) -> list[str]:
    """Hashes of the models that fields name: in folders, and in modules of the user's, which a folder may name, too.

    A folder without a model says so better when it is read.
    """
    found = []
    for name, field in type(technique).model_fields.items():
        value = getattr(technique, name)
        found += [module_hash(text) for text in texts(value) if MODULE.match(text)]
        if any(isinstance(mark, Folder) for mark in field.metadata):
            folders = [Path(folder) for folder in ((value,) if isinstance(value, str) else value) if folder]
            files = [folder / file for folder in folders for file in (STRUCTURE, WEIGHTS)]
            found.append(hashed(file for file in files if file.is_file()))
            found += [module_hash(builder_of(folder)) for folder in folders]
    return found


def builder_of(folder: Path) -> str:
    """What builds the model in a folder; empty where nothing readable says so."""
    try:
        builder = json.loads((folder / STRUCTURE).read_text(encoding="utf-8"))["builder"]
        return str(builder["name"]) if builder else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def module_hash(text: str) -> str:
    """Hash of the user's own module in `package.module:function(...)` and of all that he wrote and it imports.

    Empty for our own names.
    """
    module, colon, _ = (parse_call(text).name if text else "").partition(":")
    files = own_files(module) if colon else []
    return hashed(files) if files else ""


def texts(value: Any) -> Iterator[str]:
    """All texts in a field's value, which may be a tuple of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from texts(part)


def own_files(module: str) -> list[Path]:
    """The source of a module, and of what it imports from the user's folders or its own package; nothing is run."""
    own, found, waiting = module.split(".")[0], dict[str, Path | None](), [module]
    while waiting:
        name = waiting.pop()
        above = name.rpartition(".")[0]
        if name and name not in found:
            file = found[name] = source(name, own)
            waiting += [above, *(imports(file, name if file.name == "__init__.py" else above) if file else ())]
    return [file for _, file in sorted(found.items()) if file]


def source(name: str, own: str) -> Path | None:
    """The file of a module, unless it belongs to Python, to Lessen or to what was installed."""
    top, *rest = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):  # building it says so better
        return None
    if spec is None or (top != own and not is_users(spec)):
        return None
    file, folders = Path(spec.origin or ""), [Path(folder) for folder in spec.submodule_search_locations or ()]
    for part in rest:
        places = [p for folder in folders for p in (folder / part / "__init__.py", folder / f"{part}.py")]
        file, folders = next(filter(Path.is_file, places), Path()), [folder / part for folder in folders]
    return file if file.suffix == ".py" else None


def is_users(spec: ModuleSpec) -> bool:
    """Whether that module lies in a folder of the user's, not among what is installed."""
    folders = [Path(folder) for folder in spec.submodule_search_locations or [Path(spec.origin or "").parent]]
    installed = [Path(sysconfig.get_path("stdlib")), Path(lessen.__file__).parent]
    return (
        spec.origin not in ("built-in", "frozen")
        and not any(folder.is_relative_to(home) for folder in folders for home in installed)
        and not any({"site-packages", "dist-packages"} & set(folder.parts) for folder in folders)
    )


def imports(file: Path, package: str) -> list[str]:
    """Full names of all modules that a file may import; `from a import b` gives a and a.b. Empty for broken code."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return []
    found = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


def hashed(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()
