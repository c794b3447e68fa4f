"""A run that is killed goes on as if it had not been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_task import TinyTask, net
from torch import nn

from lessen.core.run import Run
from lessen.ops import checkpoints, layers
from lessen.ops.train import Plan, fit

PLAN = {
    "epochs": 8, "batch": 16, "optimizer": "muon", "lr": 3e-3, "schedule": "onecycle", "ema": 0.9, "clip": 1.0,
    "patience": 8,
}  # fmt: skip
SGD = {"epochs": 8, "batch": 16, "lr": 0.05, "schedule": "step"}
ADAMW = {"epochs": 8, "batch": 16, "lr": 3e-3, "optimizer": "adamw"}


@pytest.fixture(autouse=True)
def always_due(monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)


class StopError(Exception): ...


def run_once(folder, plan=None, *, stop_at=None, seed=0, model=None, loss=None, hooks=(), step="", done=()):
    """Train; `stop_at` epochs raise out of the loop as a kill would leave it."""
    run, task = Run(checkpoint=folder, step=step, done=done), TinyTask()

    def tell(share, text):
        if stop_at and text.startswith(f"epoch {stop_at}/") and len(list(folder.glob("*.pt"))):
            raise StopError

    run.progress = tell
    with task.seeded(seed):
        model = fit(model or layers.own(net()), task, Plan(**(plan or PLAN)), run, loss=loss, hooks=hooks)
        after = torch.rand(3)
    return model, run, after


def same(a, b):
    (model, run, after), (other, told, later) = a, b
    assert all(torch.equal(x, other.state_dict()[k]) for k, x in model.state_dict().items())
    assert [e.model_dump(exclude={"seconds"}) for e in run.history] == [
        e.model_dump(exclude={"seconds"}) for e in told.history
    ]
    assert run.notes == told.notes
    assert torch.equal(after, later)  # the random state behind the training is the same too


@pytest.mark.parametrize("stop_at", [1, 5, 8])
@pytest.mark.parametrize("plan", [PLAN, SGD, ADAMW], ids=["muon", "sgd", "adamw"])
def test_resumes_after_a_stop(tmp_path, plan, stop_at):
    with pytest.raises(StopError):
        run_once(tmp_path, plan, stop_at=stop_at)
    resumed, whole = run_once(tmp_path, plan), run_once(None, plan)
    same(resumed, whole)
    assert resumed[1].earlier == [sum(e.seconds for e in resumed[1].history[:stop_at])] and not whole[1].earlier


def test_masks_that_a_hook_has_set_are_kept(tmp_path):
    def cut(model, step):
        if step == 8:
            model[3].set_mask(model[3].weight.abs() > model[3].weight.abs().median())

    with pytest.raises(StopError):
        run_once(tmp_path, stop_at=4, hooks=[cut])
    resumed = run_once(tmp_path, hooks=[cut])
    same(resumed, run_once(None, hooks=[cut]))
    assert (resumed[0][3].weight == 0).sum() == resumed[0][3].weight.numel() // 2


class Deep(nn.Module):
    """Stochastic depth and noise as users write them: by Python's and NumPy's generators."""

    def __init__(self):
        super().__init__()
        self.net, self.more = net(), nn.Linear(4, 4)

    def forward(self, x):
        y = self.net(x)
        if self.training and random.random() < 0.5:
            y = y + self.more(y) * float(np.random.normal())
        return y


@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_model_that_draws_from_other_generators_resumes_too(tmp_path, stop_at):
    def go(folder, **how):
        random.seed(7)
        np.random.seed(7)
        torch.manual_seed(7)
        return *run_once(folder, SGD, model=layers.own(Deep()), **how), random.random(), np.random.normal()

    with pytest.raises(StopError):
        go(tmp_path, stop_at=stop_at)
    resumed, whole = go(tmp_path), go(None)
    same(resumed[:3], whole[:3])
    assert resumed[3:] == whole[3:]


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = run_once(tmp_path)
    steps = []
    same(run_once(tmp_path, hooks=[lambda model, step: steps.append(step)]), first)
    assert steps == []


def test_other_runs_do_not_go_on_from_it(tmp_path):
    """Another seed, plan, model, loss, technique or way to it has a file of its own."""
    run_once(tmp_path)
    others = [
        {"seed": 1}, {"plan": PLAN | {"lr": 1e-3}}, {"model": layers.own(net(seed=1))},
        {"loss": lambda model, batch: model(batch.x).square().mean()}, {"step": "A(x=1)"}, {"step": "A(x=2)"},
        {"done": ("A()",)},
    ]  # fmt: skip
    for n, other in enumerate(others, 2):
        run_once(tmp_path, **other)
        assert len(list(tmp_path.iterdir())) == n


def test_a_damaged_checkpoint_starts_over(tmp_path):
    whole = run_once(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    same(run_once(tmp_path), whole)
    file.write_bytes(b"")
    same(run_once(tmp_path), whole)


def test_a_full_disk_is_noted_and_training_goes_on(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    _, run, _ = run_once(tmp_path)
    assert run.notes[0] == "no checkpoint could be written: [Errno 28] No space left on device"
    assert len(run.history) == 8
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_keep_a_distance(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SECONDS", 1000.0)
    run_once(tmp_path)
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import sys, torch
from pathlib import Path
from lessen.ops import checkpoints
from test_train_resume import long_run
checkpoints.SECONDS = 0.0
model, run = long_run(Path(sys.argv[1]), lambda share, text: print(text, flush=True))
torch.save({"state": model.state_dict(), "scores": [(e.loss, e.score) for e in run.history]}, sys.argv[2])
"""


def long_run(folder, progress=lambda share, text: None):
    task, run = TinyTask(), Run(checkpoint=folder, progress=progress)
    with task.seeded(3):
        plan = Plan(epochs=80, batch=16, lr=0.02, ema=0.9, patience=80)
        return fit(layers.own(net()), task, plan, run), run


def start(folder, out):
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | threads)


def epoch_told(process):
    return int(process.stdout.readline().split()[1].partition("/")[0])


def test_kill_9_and_resume(tmp_path):
    """Killed somewhere after its 30th epoch, a run ends bit for bit like an undisturbed one."""
    folder, out = tmp_path / "state", tmp_path / "out.pt"
    process = start(folder, out)
    while epoch_told(process) < 30:
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    process = start(folder, out)
    assert epoch_told(process) >= 30  # it went on, rather than starting again
    process.communicate()
    resumed = torch.load(out, weights_only=True)
    model, run = long_run(None)
    assert resumed["scores"] == [(e.loss, e.score) for e in run.history]
    assert all(torch.equal(v, resumed["state"][k]) for k, v in model.state_dict().items())


def test_a_span_resumes_too(tmp_path):
    plan = {**SGD, "span": (3, 8)}
    with pytest.raises(StopError):
        run_once(tmp_path, plan, stop_at=6)
    resumed = run_once(tmp_path, plan)
    same(resumed, run_once(None, plan))
    assert [e.epoch for e in resumed[1].history] == [4, 5, 6, 7, 8]
