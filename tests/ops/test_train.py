"""The loop: what it promises at each step and at its end."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import pytest
import torch
from tiny_task import TinyTask, net
from torch import nn

from lessen.core.errors import BadData, Diverged, Refused
from lessen.core.run import Run
from lessen.ops import layers
from lessen.ops.train import Batch, Plan, fit, resized
from lessen.ops.training_plan import batch_count, step_count


def trained(plan, *, task=None, model=None, seed=0, run=None, **more):
    task, run = task or TinyTask(), run or Run()
    with task.seeded(seed):
        return fit(model or net(), task, plan, run, **more), run


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.05}, {"optimizer": "adamw", "lr": 3e-3, "schedule": "constant"},
        {"optimizer": "muon", "lr": 3e-3, "schedule": "onecycle", "channels_last": True},
        {"optimizer": "muon-unit", "lr": 0.1, "momentum": 0.6},
        {"lr": 0.05, "precision": "bf16", "clip": 1.0, "ema": 0.9, "warmup": 1.0},
    ],
    ids=lambda s: s.get("optimizer", "sgd") + s.get("precision", ""),
)  # fmt: skip
def test_learns_and_repeats(settings):
    plan = Plan(epochs=6, batch=16, **settings)
    task = TinyTask()
    first, run = trained(plan, task=task)
    assert run.history[-1].score >= 0.9
    assert task.evaluate(first, "validation") == run.history[-1].score
    assert run.history[-1].loss < run.history[0].loss
    assert [e.epoch for e in run.history] == [1, 2, 3, 4, 5, 6]
    second, _ = trained(plan, task=task)
    assert same(first, second)
    other, _ = trained(plan, task=task, seed=1)
    assert not same(first, other)
    assert all(p.is_contiguous() for p in first.parameters())


def test_matches_a_bare_loop():
    """SGD without shuffling's influence: one batch an epoch, no augmentation, no dropout."""
    task, plan = TinyTask(), Plan(epochs=3, batch=96, lr=0.1, weight_decay=0.0, schedule="cosine", augment=False)
    make = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4))  # noqa: E731
    torch.manual_seed(0)
    ours = make()
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    bare.load_state_dict(ours.state_dict())
    ours, run = trained(plan, task=task, model=ours)
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.1, momentum=0.9)
    x, y = task.split("train")
    for lr in (0.1, 0.075, 0.025):  # (1 + cos(0, 60, 120 degrees)) / 2
        optimizer.param_groups[0]["lr"] = lr
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(bare(task.inputs(x)), y)
        loss.backward()
        optimizer.step()
    assert run.history[-1].loss == pytest.approx(loss.item(), rel=1e-4)
    assert [e.lr for e in run.history] == pytest.approx([0.1, 0.075, 0.025])
    assert torch.allclose(ours[1].weight, bare[1].weight, atol=1e-5)


def test_zero_epochs_change_nothing():
    model = net()
    model, run = trained(Plan(epochs=0), model=model)
    assert same(model, net())
    assert run.history == []


def test_the_callers_random_state_stays():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    trained(Plan(epochs=1, batch=16))
    assert torch.equal(torch.rand(3), wanted)


def test_the_models_mode_comes_back():
    model, _ = trained(Plan(epochs=1, batch=48), model=net().eval())
    assert not model.training
    model, _ = trained(Plan(epochs=1, batch=48), model=net().train())
    assert model.training


def test_every_sample_once_an_epoch_in_a_new_order():
    seen = []

    def loss(model, batch: Batch):
        task_x, task_y = task.split("train")
        assert torch.equal(batch.y, task_y[batch.index])
        assert torch.equal(batch.x, task.inputs(task_x[batch.index]))
        seen.append(batch.index)
        return nn.functional.cross_entropy(model(batch.x), batch.y)

    task = TinyTask(n=49)
    trained(Plan(epochs=2, batch=16, augment=False), task=task, loss=loss)
    assert [len(s) for s in seen] == [13, 12, 12, 12] * 2
    first, second = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(49))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("n", "batch", "wanted"), [(128, 128, 1), (129, 128, 2), (3, 2, 1), (5, 2, 2), (2, 512, 1), (50_000, 128, 391)]
)
def test_batch_count(n, batch, wanted):
    count = batch_count(n, batch)
    sizes = [len(b) for b in torch.arange(n).tensor_split(count)]
    assert count == wanted
    assert min(sizes) >= 2
    assert max(sizes) <= max(batch, 3)


def test_one_sample_is_not_enough():
    with pytest.raises(BadData, match="the train split has 1 samples; training needs at least 2"):
        trained(Plan(epochs=1), task=TinyTask(n=1))


def test_hooks_see_every_step():
    steps = []
    trained(Plan(epochs=2, batch=32), hooks=[lambda model, step: steps.append((type(model), step))])
    assert steps == [(nn.Sequential, s) for s in range(1, 7)]


def test_smoothing_reaches_the_task():
    seen = []

    class Watched(TinyTask):
        def loss(self, outputs, y, smoothing=0.0):
            seen.append(smoothing)
            return super().loss(outputs, y, smoothing)

    trained(Plan(epochs=1, batch=48, smoothing=0.2), task=Watched())
    assert seen == [0.2, 0.2]


def test_blended_targets_reach_the_loss():
    class Halved(TinyTask):
        def mix(self, x, y, generator):
            return x, nn.functional.one_hot(y, 4) / 2 + 0.125

    def loss(model, batch):
        seen.append(batch.y.shape)
        return nn.functional.cross_entropy(model(batch.x), batch.y)

    for augment, shape in ((True, (96, 4)), (False, (96,))):
        seen: list = []
        trained(Plan(epochs=1, batch=96, augment=augment), task=Halved(), loss=loss)
        assert seen == [shape]


def test_clipping_bounds_the_step():
    """Plain SGD with lr 1 moves by the clipped gradient: norm 0.01 over all parameters, in one step."""
    before = net()
    plan = Plan(epochs=1, batch=96, lr=1.0, momentum=0.0, weight_decay=0.0, clip=0.01)
    after, _ = trained(plan)
    moved = [(a - b).flatten() for a, b in zip(after.parameters(), before.parameters(), strict=True)]
    assert torch.cat(moved).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_averaged_weights_are_scored_and_returned():
    """With one update the average is 2/11 of the start and 9/11 of the trained weights."""
    plan = {"epochs": 1, "batch": 96}
    start, (live, _), (mean, _) = net(), trained(Plan(**plan)), trained(Plan(**plan, ema=0.999))
    wanted = start[3].weight * 2 / 11 + live[3].weight * 9 / 11
    assert torch.allclose(mean[3].weight, wanted, atol=1e-6)


class Scores(TinyTask):
    """Validation scores as told."""

    def __init__(self, *scores):
        super().__init__()
        self.scores, self.weights = iter(scores), []

    def evaluate(self, model, name):
        self.weights.append({k: v.clone() for k, v in model.state_dict().items()})
        return next(self.scores)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_early_stopping_keeps_the_best(ema):
    task = Scores(0.5, 0.7, 0.6, 0.7, 0.9)
    model, run = trained(Plan(epochs=9, batch=48, patience=2, ema=ema), task=task)
    assert [e.score for e in run.history] == [0.5, 0.7, 0.6, 0.7]
    assert all(torch.equal(v, task.weights[1][k]) for k, v in model.state_dict().items())
    assert run.notes == [
        "stopped after epoch 4 of 9: none better for 2 epochs", "kept epoch 2, the best on validation (0.7000)"
    ]  # fmt: skip


def test_early_stopping_says_when_it_cannot():
    _, run = trained(Plan(epochs=2, batch=48, patience=1), task=TinyTask(held=0))
    assert [e.score for e in run.history] == [None, None]
    assert run.notes == ["early stopping was off: the validation split is empty"]


def test_divergence_names_epoch_step_and_mend():
    calls = 0

    def loss(model, batch):
        nonlocal calls
        calls += 1
        return model(batch.x).sum() * (math.nan if calls == 5 else 0.0)

    with pytest.raises(Diverged, match=r"the loss is nan at epoch 2, step 2 of 3; lower lr \(now 0.3\)"):
        trained(Plan(epochs=3, batch=32, lr=0.3), loss=loss)


def test_a_wild_rate_diverges():
    with pytest.raises(Diverged, match=r"the loss is (inf|nan) at epoch"):
        trained(Plan(epochs=20, batch=16, lr=1e18, momentum=0.99))


def test_sixteen_bits_need_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Refused, match="precision='16' needs a GPU; use precision='bf16'"):
        trained(Plan(epochs=1, precision="16"))


def test_progress_rises_to_one():
    told = []
    trained(Plan(epochs=3, batch=32), run=Run(progress=lambda share, text: told.append((share, text))))
    assert told[-1][0] == 1.0
    assert all(a[0] < b[0] for a, b in pairwise(told))
    assert told[-1][1].startswith("epoch 3/3 loss ")
    assert " score " in told[-1][1]
    assert told[-1][1].endswith(" 0 s left")


def compressed():
    """Half of each weight masked, int8 weights and activations."""
    model = layers.own(net())
    for layer in layers.weighted(model).values():
        layer.set_mask(layer.weight.abs() > layer.weight.abs().median())
        layer.wq = layers.WeightQuantizer.fitting(layer, 8)
    model[2].oq = layers.ActivationQuantizer()
    model[2].oq.set_range(torch.tensor(0.0), torch.tensor(4.0))
    return model


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.05), ("adamw", 0.01), ("muon", 0.01)])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_zeros_stay_zero_and_scales_stay_sane(optimizer, lr, ema):
    start = compressed()
    plan = Plan(epochs=8, batch=16, optimizer=optimizer, lr=lr, ema=ema, patience=8)
    model, run = trained(plan, model=compressed())
    assert run.history[-1].score >= 0.9
    for path, layer in layers.weighted(model).items():
        assert torch.equal(layer.mask, start.get_submodule(path).mask)
        assert (layer.weight[~layer.mask] == 0).all()
        assert not torch.equal(layer.weight, start.get_submodule(path).weight)
        ratio = layer.wq.scale / start.get_submodule(path).wq.scale
        assert ((ratio > 0.5) & (ratio < 2)).all()


def test_a_mask_set_by_a_hook_holds_against_momentum():
    def cut(model, step):
        if step == 6:
            model[3].set_mask(model[3].weight.abs() > model[3].weight.abs().median())

    model, _ = trained(Plan(epochs=4, batch=16, ema=0.9), model=layers.own(net()), hooks=[cut])
    assert (~model[3].mask).sum() == model[3].mask.numel() // 2
    assert (model[3].weight[~model[3].mask] == 0).all()


def test_nothing_is_printed(capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(Plan(epochs=1, batch=48, precision="bf16", clip=1.0, ema=0.9))
    assert capfd.readouterr() == ("", "")


def test_image_sizes_have_equal_shares_of_the_run():
    task, seen = TinyTask(), []
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        seen.append(batch.x.shape[-1])
        return task.loss(model(batch.x), batch.y)

    fit(model, task, Plan(epochs=3, batch=32, sizes=(4, 6, 8)), Run(), loss=loss)
    assert seen == [4, 4, 4, 6, 6, 6, 8, 8, 8]


def test_the_last_epochs_blend_nothing_where_that_is_asked():
    class Blending(TinyTask):
        def mix(self, x, y, generator):
            return x, nn.functional.one_hot(y, 4).float()

    def kinds(**plan) -> list[int]:
        task, seen = Blending(), []

        def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
            seen.append(batch.y.dim())
            return task.loss(model(batch.x), batch.y)

        model = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
        model(task.inputs(task.split("train").x[:1]))
        fit(model, task, Plan(epochs=3, batch=64, **plan), Run(), loss=loss)
        return seen

    assert kinds() == kinds(unblended=0) == [2] * 6
    assert kinds(unblended=2) == [2, 2, 1, 1, 1, 1]
    assert kinds(unblended=5) == [1] * 6
    assert kinds(unblended=2, span=(0, 1)) == [2, 2]


@pytest.mark.parametrize(("capability", "emulated"), [("DEFAULT", True), ("AVX2", True), ("AVX512", False)])
def test_a_cpu_that_would_emulate_bfloat16_trains_in_float32_and_says_so(capability, emulated, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    kinds, task, run = set(), TinyTask(), Run()

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        answers = model(batch.x)
        kinds.add(torch.is_autocast_enabled("cpu"))
        return task.loss(answers, batch.y)

    fit(net(), task, Plan(epochs=1, batch=48, precision="bf16"), run, loss=loss)
    assert kinds == {not emulated}
    assert any("trained in float32: this CPU would only emulate bfloat16" in note for note in run.notes) == emulated


@pytest.mark.parametrize(("precision", "last"), [("32", False), ("bf16", True)])
def test_sixteen_bit_floats_keep_images_channels_last(precision, last):
    task, seen = TinyTask(), set()
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 4))

    def loss(module: nn.Module, batch: Batch) -> torch.Tensor:
        seen.add(model[1].weight.is_contiguous(memory_format=torch.channels_last))
        return task.loss(module(batch.x), batch.y)

    fit(model, task, Plan(epochs=1, batch=48, precision=precision), Run(), loss=loss)
    assert seen == {last}
    assert model[1].weight.is_contiguous()


def test_resizing_keeps_the_mean_and_the_size_asked_for():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert resized(x, 8) is x
    small = resized(x, 4)
    assert small.shape == (1, 1, 4, 4)
    assert small.mean().item() == pytest.approx(x.mean().item(), abs=1e-4)


def test_spans_of_one_schedule_are_the_whole_but_for_the_momentum_between():
    whole = Plan(epochs=5, batch=16, lr=0.05, momentum=0.0)
    first, model = net(), net()
    first[7].p = model[7].p = 0.0  # each span begins with the same random state
    first, run = trained(whole, model=first)
    spans, lrs, seen = [], [], []
    for span in ((0, 2), (2, 2), (2, 5)):
        plan = Plan(epochs=5, batch=16, lr=0.05, momentum=0.0, span=span)
        model, part = trained(plan, model=model, hooks=[lambda model, step: seen.append(step)])
        spans.append([e.epoch for e in part.history])
        lrs += [e.lr for e in part.history]
    assert spans == [[1, 2], [], [3, 4, 5]] and lrs == [e.lr for e in run.history]
    assert seen == list(range(1, step_count(TinyTask(), whole) + 1))
    assert same(first, model)
