"""Turn a model into an artifact: a folder that is whole or not there, whose file computes what the model computes."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lessen.artifact.load import Artifact
from lessen.artifact.manifest import NAME, Manifest, entry
from lessen.core.errors import BadArtifact, DiskFull, LessenError
from lessen.models.state import STRUCTURE, WEIGHTS, save_model

if TYPE_CHECKING:
    from torch import nn

    from lessen.artifact.export import Exported
    from lessen.artifact.forms import Shrunk
    from lessen.core.recipe import Recipe
    from lessen.core.record import Cost, Record
    from lessen.core.task import Task

MODEL = "model.onnx"
INTEGER_TYPES = {2, 3, 21, 22, 25, 26}  # onnx.TensorProto: uint8, int8, uint4, int4, uint2, int2
STORED = {2: "integer", 3: "integer", 10: "float16", 16: "bfloat16"}


def pack(
    model: nn.Module,
    task: Task,
    folder: str | Path,
    *,
    recipe: str | Recipe = "",
    seed: int = 0,
    records: Iterable[Record] = (),
    parent: Artifact | None = None,
    sparse: bool = True,
    code: str = "",
) -> Artifact:
    """Write `folder` with model.onnx, structure.json, weights.safetensors and manifest.json.

    parent: the artifact that the recipe started from, for the lineage and to notice a recipe that saved nothing.
    sparse: store a weight's zeros as bits where that is smaller; it is unpacked once, at load.
    code: hash of the user's own modules behind model and task, kept in the manifest.
    Errors: Disagreement when the file's outputs are not the model's, BadArtifact when the folder exists or the
    model cannot be exported, DiskFull. On any error nothing is left behind; what a killed process left goes with the
    next call for the same folder.
    """
    folder = Path(folder)
    if folder.exists():
        raise BadArtifact(f"{folder} exists already; choose another folder or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(folder)
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
        unfinished.mkdir()
    except OSError as e:
        raise _disk_error(e, folder) from None
    try:
        manifest = _write(model, task, unfinished, str(recipe), seed, tuple(records), parent, sparse, code)
        _sync(unfinished)
        unfinished.rename(folder)
    except OSError as e:
        raise _disk_error(e, folder) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Artifact(folder, manifest)


def _clear_leftovers(folder: Path) -> None:
    """Remove what packing into this folder left when its process was killed."""
    for path in folder.parent.iterdir():
        pid = path.name.removeprefix(f".{folder.name}.").removesuffix(".unfinished")
        if path.name == f".{folder.name}.{pid}.unfinished" and pid.isdecimal() and not _others(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _others(pid: int) -> bool:
    """Whether a process of that number runs that is not this one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)  # asks, and sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def _write(
    model: nn.Module,
    task: Task,
    folder: Path,
    recipe: str,
    seed: int,
    records: tuple[Record, ...],
    parent: Artifact | None,
    sparse: bool,
    code: str,
) -> Manifest:
    from lessen.artifact.export import export
    from lessen.artifact.fidelity import compare

    private = task.copy(model).cpu().eval()
    exported = export(private, task.inputs(task.split("train").x[:1]))
    integer = any(i.data_type in INTEGER_TYPES for i in exported.proto.graph.initializer)
    computes = _computes(exported)
    packed = _save(exported, folder / MODEL, sparse)
    fidelity = compare(private, folder / MODEL, exported, task)
    save_model(private, folder)
    files = {MODEL: entry(folder / MODEL, "runnable")}
    files |= {name: entry(folder / name, "compress") for name in (STRUCTURE, WEIGHTS)}
    cost = task.cost(private)
    manifest = Manifest(
        recipe=recipe, seed=seed, model=str(getattr(private, "builder", type(private).__name__)), task=task.text,
        task_fingerprint=task.fingerprint, code=code, final=task.final, license=task.license, classes=task.classes,
        shape=task.shape, preprocess=task.preprocess(), cost=cost, fidelity=fidelity, computes=_told(computes, packed),
        bits=packed.bits, sparse=tuple(packed.sparse), records=tuple(map(_timeless, records)),
        lineage=(*parent.manifest.lineage, parent.manifest.id) if parent else (), versions=versions(),
        notes=_notes(recipe, files[MODEL].bytes, cost, integer, parent), files=files,
    )  # fmt: skip
    (folder / NAME).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest


def _timeless(record: Record) -> Record:
    """Without its times, so that the folder's bytes follow from recipe and seed alone."""
    history = tuple(epoch.model_copy(update={"seconds": 0.0}) for epoch in record.history)
    return record.model_copy(update={"seconds": 0.0, "history": history})


def _save(exported: Exported, file: Path, sparse: bool) -> Shrunk:
    """Write the file, each weight in the smallest form with which the runtime still runs the same operators."""
    from onnx import ModelProto

    from lessen.artifact.forms import Shrunk, shrink
    from lessen.artifact.runtimes import open_session

    dense = exported.proto.SerializeToString(deterministic=True)
    file.write_bytes(dense)
    operators: dict[str, int] = {}
    for without_zeros in (True, False) if sparse else (False,):
        found = shrink(exported.proto, without_zeros=without_zeros)
        if not found:
            return found
        operators = operators or open_session([file]).operators()
        smaller = exported.proto.SerializeToString(deterministic=True)
        file.write_bytes(smaller)
        if open_session([file]).operators() == operators:
            return found
        exported.proto.CopyFrom(ModelProto.FromString(dense))  # what is unpacked at every call is not worth its bytes
        file.write_bytes(dense)
    return Shrunk()


def _computes(exported: Exported) -> str:
    """In words: what the weighted operators compute in, and of what weights."""
    nodes = exported.proto.graph.node
    makers = {n.output[0]: n for n in nodes}
    kinds = {i.name: i.data_type for i in exported.proto.graph.initializer}
    weighted = [n for n in nodes if n.op_type in ("Conv", "Gemm", "MatMul")]
    dynamic = sum(n.op_type == "MatMulInteger" for n in nodes)
    integer = sum(any(w in makers and makers[w].op_type == "DequantizeLinear" for w in n.input[1:2]) for n in weighted)
    stored = [_root(n.input[1], makers, kinds) for n in weighted if n.input[1] in makers]
    total = len(weighted) + dynamic
    said = []
    if integer:
        said.append(f"int8 weights and uint8 activations in {integer} of {total} weighted operators")
    if dynamic:
        said.append(f"int8 weights and activations quantized at every call in {dynamic} of {total}")
    folded = Counter(STORED[kind] for kind in stored if kind in STORED)
    folded["integer"] -= integer
    said += [f"float32 from {name} weights, unpacked at load, in {n} of {total}" for name, n in folded.items() if n > 0]
    return ", ".join([*said, "float32 between"]) if said else "float32"


def _root(name: str, makers: dict, kinds: dict[str, int]) -> int:
    """The type of the initializer at the start of a chain of constants, 0 where it has none."""
    while name in makers:
        name = makers[name].input[0]
    return kinds.get(name, 0)


def _told(computes: str, packed: Shrunk) -> str:
    """With the bits that weights are stored in, where those are fewer than a byte's."""
    count = Counter(packed.bits.values())
    stored = ", ".join(f"{bits} bit{'s' * (bits > 1)} in {n} layers" for bits, n in sorted(count.items()))
    return f"{computes}; stored in {stored}, unpacked at load" if stored else computes


def _notes(recipe: str, size: int, cost: Cost, integer: bool, parent: Artifact | None) -> tuple[str, ...]:
    """Says so when a recipe won nothing on disk, which is the field's commonest silent failure."""
    if not recipe or parent is None:
        return ()
    before = sum(f.bytes for f in parent.manifest.files.values() if f.role == "runnable")
    if size < 0.995 * before:
        return ()
    fewer = cost.nonzeros < 0.995 * parent.manifest.cost.nonzeros
    if fewer:
        share = 1 - cost.nonzeros / max(cost.parameters, 1)
        return (
            f"no smaller on disk: {share:.0%} of the weights are zero, too few to leave them out; transport shrinks",
        )
    if integer or cost.parameters < parent.manifest.cost.parameters:
        return (f"no smaller on disk: {size} bytes against {before}",)
    return (f"no-op: {size} bytes against {before}, no integer weights and no fewer weights than before",)


def versions() -> dict[str, str]:
    """What the artifact was made with."""
    names = ("lessen", "torch", "onnx", "onnxscript", "onnxruntime")
    return {"python": ".".join(map(str, sys.version_info[:3])), **{name: version(name) for name in names}}


def _sync(folder: Path) -> None:
    """Bytes reach the disk before the rename does, so that a crash cannot leave a whole-looking folder."""
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _disk_error(error: OSError, folder: Path) -> LessenError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(
            f"the disk is full: {folder} could not be written and nothing of it was left; free space and run again"
        )
    where = f": {error.filename}" if error.filename and Path(error.filename) != folder else ""
    return LessenError(f"{folder} cannot be written ({error.strerror or error}{where}); choose another folder with -o")
