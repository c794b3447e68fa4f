"""Every layer over a grid of ratios, one layer at a time, each put back afterwards (Han et al. 2015; MIT 6.5940).

A pass starts at the layer that changed: what stands before it is remembered for one chunk of images at a time, so the
memory is bounded whatever the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lessen.core.run import silent
from lessen.inspect.replay import Memory, Replay
from lessen.inspect.sites import Edit, Site, edited, joined

BATCH = 256  # images of a pass
MEMORY = 2**30  # bytes of remembered values


@dataclass(frozen=True)
class Answers:
    """Which images were right: dense (images,), changed (sites, ratios, images); both bool."""

    dense: np.ndarray
    changed: np.ndarray
    problem: str  # why every pass was run whole, or nothing


def scan(
    model: nn.Module, inputs: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, sites: Sequence[Site],
    ratios: Sequence[float], *, cached: bool = True, memory: int = MEMORY,
    progress: Callable[[float, str], None] = silent,
) -> Answers:  # fmt: skip
    """Scan a model of our layers in evaluation mode on samples x (n, ...) as stored; `inputs` makes them its input.

    cached=False runs every pass whole, with identical answers.
    """
    batches = ((inputs(part), labels) for part, labels in _batches(model, x, y))
    replay = Replay.of(model, inputs(x[:2].to(next(model.parameters()).device))) if cached else "as asked"
    _keep_heap()
    dense: list[np.ndarray] = []
    changed: list[np.ndarray] = []
    seen = 0
    with torch.no_grad():
        for chunk in _chunks(model, batches, replay, sites, memory):
            dense += [right for right, *_ in chunk]
            rows, images = [], sum(len(right) for right, *_ in chunk)
            for i, site in enumerate(sites, 1):
                rows.append([_answers(site.edits(r), site.touched, chunk) for r in ratios])
                progress((seen + images * i / len(sites)) / len(y), f"{site.paths[0]}, {len(y)} images")
            changed.append(np.array(rows))
            seen += images
    problem = replay if isinstance(replay, str) and cached else ""
    return Answers(np.concatenate(dense), np.concatenate(changed, axis=2), problem)


def together(
    model: nn.Module, inputs: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, edits: Sequence[Edit]
) -> float:
    """Share of right answers when all these edits hold at once."""
    with torch.no_grad(), edited(joined(edits)):
        right = [_right(model(inputs(part)), labels) for part, labels in _batches(model, x, y)]
    return float(np.concatenate(right).mean())


def _batches(model: nn.Module, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Samples on the model's device, and their labels."""
    device = next(model.parameters()).device
    for part, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
        yield part.to(device), labels.numpy()


Batch = tuple[np.ndarray, Callable[[Collection[str]], Tensor], np.ndarray]  # dense answers, pass from a change, labels


def _chunks(
    model: nn.Module, batches: Iterable[tuple[Tensor, np.ndarray]], replay: Replay | str, sites: Sequence[Site],
    memory: int,
) -> Iterator[list[Batch]]:  # fmt: skip
    """Batches whose remembered values fit in `memory` together; at least one at a time."""
    if isinstance(replay, str):
        yield [(_right(model(x), y), lambda _, x=x: model(x), y) for x, y in batches]
        return
    chunk: list[Batch] = []
    used = 0
    for x, y in batches:
        outputs, values = replay.remember(x, [site.touched for site in sites])
        size = _bytes(values)
        if chunk and used + size > memory:
            yield chunk
            chunk, used = [], 0
        chunk.append((_right(outputs, y), lambda paths, values=values: replay.run(values, paths), y))
        used += size
    yield chunk


def _answers(edits: Sequence[Edit], touched: Collection[str], chunk: Sequence[Batch]) -> np.ndarray:
    with edited(edits):
        return np.concatenate([_right(run(touched), labels) for _, run, labels in chunk])


def _right(outputs: Tensor, labels: np.ndarray) -> np.ndarray:
    return outputs.argmax(1).cpu().numpy() == labels


def _keep_heap() -> None:
    """Without this a quarter of a scan is page faults: glibc gives the top of the heap back after every short pass.

    Once a block just under 32 MiB was freed, it keeps up to twice as much (mallopt(3), M_MMAP_THRESHOLD).
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def _bytes(values: Memory) -> int:
    tensors = {id(v): v for v in values.values() if isinstance(v, Tensor)}
    return sum(t.numel() * t.element_size() for t in tensors.values())
