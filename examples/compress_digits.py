"""Fifteen lines from a model to a file you can ship, and what it cost. Run: python examples/compress_digits.py OUT"""

import sys
from pathlib import Path

import lessen
from lessen import ChannelPrune, Finetune, Int8
from lessen.measure import measure

out = Path(sys.argv[1])
task = lessen.task("digits")  # 1,797 real scans; or cifar100(data="..."), folder(path="..."), or your own function
with task.seeded(0):
    model = task.build("cnn")
model, _ = lessen.recipe(task.baseline).apply(model, task)
baseline = lessen.pack(model, task, out / "baseline")

recipe = ChannelPrune(ratio=0.5) >> Finetune(epochs=6, lr=0.05, batch=32) >> Int8()
small, records = recipe.apply(model, task)
artifact = lessen.pack(small, task, out / "small", recipe=recipe, records=records, parent=baseline)

before, after = (measure(a, task, baseline=baseline) for a in (baseline, artifact))
print(f"{before.bytes.runnable:,} -> {after.bytes.runnable:,} bytes")
print(f"test score {before.test.value:.1%} -> {after.test.value:.1%}, n = {after.test.n}")
