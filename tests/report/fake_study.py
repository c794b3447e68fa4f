"""A study as one could have been: 13 recipes and the baseline, two seeds, one recipe that always fails."""

from __future__ import annotations

import math
import random

from lessen.core.record import Bytes, Cost, Epoch, Latency, Machine, Measurement, Record, Score
from lessen.core.trial import Trial

MACHINE = Machine(
    cpu="Example CPU 3000", cores=2, threads=1, memory_gib=7.8, system="Linux 6.1 x86_64", python="3.11.2",
    runtime="onnxruntime 1.32.0",
)  # fmt: skip
TRAIN = "Finetune(epochs=12)"
# what a step leaves: shares of parameters, non-zeros, MACs, bits a weight; loss of score in points; time ratio
EFFECT = {
    "MagnitudePrune(sparsity=0.8)": (1, 0.2, 1, 1, 1.4, 1.0),
    "ChannelPrune(ratio=0.4)": (0.4, 1, 0.42, 1, 1.9, 0.55),
    "ChannelPrune(ratio=0.6)": (0.18, 1, 0.2, 1, 4.5, 0.38),
    "LowRank(ratio=0.5)": (0.55, 1, 0.6, 1, 0.9, 0.8),
    "Int8()": (1.01, 1, 1, 0.26, 0.15, 0.42),
    "Student(model='cnn(width=0.5)')": (0.26, 1, 0.27, 1, 60.0, 0.45),
    "LogitDistill(epochs=10)": (1, 1, 1, 1, -1.2, 1.0),
    "Finetune(epochs=5)": (1, 1, 1, 1, -0.8, 1.0),
}
RECIPES = (
    "",
    "Int8()",
    "MagnitudePrune(sparsity=0.8)",
    "MagnitudePrune(sparsity=0.8) >> Finetune(epochs=5)",
    "ChannelPrune(ratio=0.4) >> Finetune(epochs=5)",
    "ChannelPrune(ratio=0.6) >> LogitDistill(epochs=10)",
    "LowRank(ratio=0.5)",
    "LowRank(ratio=0.5) >> Finetune(epochs=5)",
    "Student(model='cnn(width=0.5)') >> LogitDistill(epochs=10)",
    "ChannelPrune(ratio=0.4) >> LogitDistill(epochs=10) >> Int8()",
    "LowRank(ratio=0.5) >> Finetune(epochs=5) >> Int8()",
    "Student(model='cnn(width=0.5)') >> LogitDistill(epochs=10) >> Int8()",
    "MagnitudePrune(sparsity=0.8) >> ChannelPrune(ratio=0.4) >> LogitDistill(epochs=10) >> Int8()",
    "Int8() >> Student(model='cnn(width=0.5)')",
)
LAYERS = ("stem.conv", "body.0.conv", "body.1.conv", "body.2.conv", "head.fc")
DESCRIPTION = {
    "name": "demo", "task": "digits", "model": "cnn", "baseline": TRAIN, "recipes": list(RECIPES[1:]), "seeds": [0, 1],
    "target": {"device": "cpu", "runtime": "onnxruntime", "threads": 1, "batches": [1, 64]},
}  # fmt: skip


def trials(seeds: tuple[int, ...] = (0, 1), recipes: tuple[str, ...] = RECIPES) -> list[Trial]:
    """The rows of the study; the same ones every time."""
    return [_trial(recipe, seed) for recipe in recipes for seed in seeds]


def _trial(recipe: str, seed: int) -> Trial:
    rng = random.Random(f"{recipe} {seed}")
    common = {
        "study": "demo", "recipe": recipe, "seed": seed, "task": "digits", "task_fingerprint": "5f" * 32,
        "model": "cnn", "finished": "2026-01-02T03:04:05+00:00", "threads": 1,
    }  # fmt: skip
    if recipe.startswith("Int8() >> Student"):
        error = "Student cannot follow Int8 because it starts from new weights; do Int8 after Student"
        return Trial(**common, status="failed", error=error, seconds=0.4)
    start = 0.974 + 0.002 * random.Random(seed).gauss(0, 1)
    dense = Cost(parameters=99_722, nonzeros=99_722, macs=4_410_000, weight_bits=99_722 * 32)
    records = [_record(TRAIN, seed, dense, dense, start, 12, rng)]
    score, ratio, gap = start, 1.0, 0.0
    for step in filter(None, recipe.split(" >> ")):
        p, z, m, b, loss, time = EFFECT[step]
        old = records[-1].after
        new = Cost(
            parameters=int(old.parameters * p), nonzeros=int(old.nonzeros * min(p, 1) * z), macs=int(old.macs * m),
            weight_bits=int(old.weight_bits * p * b),
        )  # fmt: skip
        gap = 0.9 if loss > 50 else gap + loss / 100 + 0.003 * rng.gauss(0, 1)
        if loss < 0:  # training heals most of what is missing
            gap = 0.25 * gap if gap < 0.5 else 0.012
        score, ratio = start - gap, ratio * time
        epochs = 10 if "epochs=10" in step else 5 if "epochs" in step else 0
        records.append(_record(step, seed, old, new, score, epochs, rng))
    return Trial(
        **common, status="done", records=tuple(records), measurement=_measure(records[-1].after, score, ratio, rng),
        artifact=f"artifacts/{seed}", predictions=f"predictions/{seed}.npz", seconds=sum(r.seconds for r in records),
    )  # fmt: skip


def _record(text: str, seed: int, before: Cost, after: Cost, score: float, epochs: int, rng: random.Random) -> Record:
    history = tuple(
        Epoch(epoch=e, loss=2.1 * math.exp(-0.45 * e) + 0.05 + 0.01 * rng.random(),
              score=max(0.0, score - 0.35 * math.exp(-0.5 * e) + 0.002 * rng.gauss(0, 1)), lr=0.05, seconds=0.4)
        for e in range(1, epochs + 1)
    )  # fmt: skip
    details = {}
    if text.startswith("MagnitudePrune"):
        details = {"sparsity": {name: round(0.6 + 0.08 * i, 3) for i, name in enumerate(LAYERS)}}
    if text.startswith("ChannelPrune"):
        details = {"channels": {name: [16 + 8 * i, 10 + 4 * i] for i, name in enumerate(LAYERS)}, "macs": [2, 1]}
    if text.startswith("LowRank"):
        details = {"layers": {name: {"rank": 8 + 4 * i, "energy": 0.9 + 0.01 * i} for i, name in enumerate(LAYERS)}}
    return Record(
        technique=text, seed=seed, seconds=0.2 + 0.4 * epochs, before=before, after=after, score=score, history=history,
        notes=("the last layer stays dense",) if "Prune" in text else (), details=details,
    )  # fmt: skip


def _measure(cost: Cost, score: float, ratio: float, rng: random.Random) -> Measurement:
    def split(n: int, value: float) -> Score:
        half = 1.96 * math.sqrt(value * (1 - value) / n)
        return Score(value=value, low=max(0.0, value - half), high=min(1.0, value + half), n=n)

    ratio *= 1 + 0.02 * rng.gauss(0, 1)
    runnable = cost.weight_bits // 8 + 4_200
    return Measurement(
        validation=split(225, round(225 * score) / 225), test=split(898, round(898 * (score - 0.001)) / 898),
        bytes=Bytes(runnable=runnable, transport=int(runnable * (0.3 + 0.6 * cost.nonzeros / cost.parameters)),
                    folder=cost.parameters * 4 + runnable + 9_000),
        cost=cost, peak_memory_mib=48 + cost.weight_bits / 2e6, machine=MACHINE, notes=("nothing else ran",),
        latency=tuple(
            Latency(batch=b, median_ms=0.21 * b**0.8 * ratio, iqr_ms=0.01 * b**0.8, n=30, ratio=ratio, ratio_iqr=0.03)
            for b in (1, 64)
        ),
    )  # fmt: skip
