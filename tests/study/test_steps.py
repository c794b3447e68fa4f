"""Steps are keyed by all that decides their outcome, made once, and whole or not there."""

from __future__ import annotations

import shutil

import pytest
import torch

from lessen.catalog import recipe
from lessen.core.errors import BadStudy, Refused
from lessen.core.technique import Technique
from lessen.prune.channel_prune import ChannelPrune
from lessen.prune.magnitude_prune import MagnitudePrune
from lessen.quantize.mixed_bits import MixedBits
from lessen.study import sources
from lessen.study import steps as module
from lessen.study.steps import VERDICT, Place, Steps
from lessen.tasks import task

MODEL = "cnn(width=0.125)"
PRUNE, CUT = str(MagnitudePrune()), str(ChannelPrune())


@pytest.fixture(scope="module")
def digits():
    return task("digits")


@pytest.fixture
def steps(tmp_path, digits):
    return Steps(tmp_path / "steps", digits)


@pytest.fixture
def applied(monkeypatch):
    """Texts of the techniques that were really applied."""
    seen: list[str] = []
    original = Technique.apply
    monkeypatch.setattr(Technique, "apply", lambda self, *a, **k: (seen.append(str(self)), original(self, *a, **k))[1])
    return seen


def through(steps: Steps, text: str, seed: int = 0):
    place = steps.start(MODEL, seed).as_baseline()
    for technique in recipe(text):
        place = steps.take(place, technique)
    return place


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_step_is_applied_once_and_read_back(steps, applied):
    first = through(steps, "MagnitudePrune() >> Int8()")
    again = through(steps, "MagnitudePrune() >> Int8()")
    assert applied == [PRUNE, "Int8()"]
    assert first.records == again.records and [r.technique for r in again.records] == applied
    assert again.done == (PRUNE, "Int8()") and same(first.model, again.model)


def test_a_shared_beginning_is_shared(steps, applied):
    through(steps, "MagnitudePrune() >> Int8()")
    through(steps, "MagnitudePrune() >> ChannelPrune()")
    assert applied == [PRUNE, "Int8()", CUT]


def test_only_the_longest_beginning_is_loaded(steps, digits):
    through(steps, "MagnitudePrune() >> Int8()")
    loaded = []
    later = Steps(steps.folder, digits, load=lambda folder: (loaded.append(folder.name), steps.load(folder))[1])
    end = through(later, "MagnitudePrune() >> Int8() >> ChannelPrune()")
    assert len(loaded) == 1
    assert end.model is end.model and len(loaded) == 2


def test_the_cache_gives_what_the_technique_made(steps, digits):
    place = steps.start(MODEL, 3).as_baseline()
    step = recipe("Finetune(epochs=1, lr=0.1)").steps[0]
    model, _ = step.apply(place.model, digits, seed=3)
    assert same(steps.take(place, step).model, model)


def at(key: str, seed: int = 0, **fields) -> Place:
    return Place(key, seed, lambda: None, **fields)


def test_every_surrounding_is_in_the_key(steps, digits, tmp_path, monkeypatch):
    prune, other = recipe("MagnitudePrune() >> MagnitudePrune(sparsity=0.25)")
    teacher = at("teacher")
    keys = {
        steps.after(place, technique).key
        for place, technique in [
            (at("p"), prune), (at("q"), prune), (at("p"), other), (at("p", 1), prune),
            (at("p", origin=teacher), prune), (at("p", origin=at("p")), prune), (at("p", replaced=teacher), other),
            (at("p", origin=teacher, done=("Int8()",)), prune),
        ]
    }  # fmt: skip
    keys.add(Steps(tmp_path, digits, threads=2).after(at("p"), prune).key)
    keys.add(Steps(tmp_path, task("digits(seed=1)")).after(at("p"), prune).key)
    monkeypatch.setattr(module, "arithmetic", lambda: ("2.13.0", "NO AVX"))
    keys.add(Steps(tmp_path, digits).after(at("p"), prune).key)
    monkeypatch.setattr(module, "code_hash", lambda kind: "changed technique")
    keys.add(steps.after(at("p"), prune).key)
    assert len(keys) == 12
    starts = {steps.start(*start).key for start in ((MODEL, 0), (MODEL, 1), ("cnn", 1))}
    monkeypatch.setattr(module, "rooms", lambda *names: "changed code")
    assert len(starts | {steps.start(MODEL, 0).key}) == 4


def test_what_a_technique_imports_is_in_the_key(tmp_path, monkeypatch):
    """Also where it does so within functions, through other rooms, and by relative names."""
    seen = [file.as_posix() for file in sources.own_files("lessen.quantize.mixed_bits")]
    for file in ("quantize/mixed_bits.py", "core/technique.py", "ops/bit_choice.py", "analyze/allocation.py"):
        assert any(name.endswith(f"lessen/{file}") for name in seen), file
    assert not any("/prune/" in name for name in seen)
    changed = next(name for name in seen if name.endswith("allocation.py"))
    before = sources.code_hash.__wrapped__(MixedBits)
    read = sources.Path.read_bytes
    monkeypatch.setattr(sources.Path, "read_bytes", lambda p: read(p) + (b"#" if p.as_posix() == changed else b""))
    assert sources.code_hash.__wrapped__(MixedBits) != before != sources.code_hash.__wrapped__(MagnitudePrune)


def test_baselines_of_several_steps_are_as_in_a_recipe(steps):
    """What has been done, and who teaches: `Recipe.apply` on the fresh model says the same."""
    text = "Finetune(epochs=1) >> LogitDistill(epochs=1)"
    place = steps.start(MODEL, 0)
    fresh = steps.task.copy(place.model)
    for technique in recipe(text):
        place = steps.take(place, technique)
    model, records = recipe(text).apply(fresh, steps.task)
    assert same(place.model, model) and place.records[-1].details["teachers"] == records[-1].details["teachers"]
    with pytest.raises(Refused, match="LotteryTicket cannot follow Finetune"):
        steps.take(steps.take(steps.start(MODEL, 0), recipe(text).steps[0]), recipe("LotteryTicket(epochs=1)").steps[0])
    assert place.as_baseline().done == ()


def test_a_default_that_changes_changes_the_key(steps, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "digest", lambda *parts: seen.append(parts) or "k")
    steps.after(at("p"), recipe("MagnitudePrune()").steps[0])
    assert "sparsity=0.5" in seen[0][1]


def test_where_the_baseline_ends_decides_who_teaches(steps):
    """The same three steps on one cache: the last is taught by the baseline, which is another one."""
    first, prune, teach = recipe("Finetune(epochs=1, batch=64) >> ChannelPrune() >> LogitDistill(epochs=1)")
    place = steps.take(steps.start(MODEL, 0), first)
    early = steps.take(steps.take(place.as_baseline(), prune), teach)
    late = steps.take(steps.take(place, prune).as_baseline(), teach)
    assert early.key != late.key and not same(early.model, late.model)


def test_a_student_in_the_baseline_is_taught_by_what_it_replaced(steps, digits):
    """As `Recipe.apply` does it."""
    text = "Finetune(epochs=1) >> Student(width=0.5) >> LogitDistill(epochs=1)"
    place = steps.start(MODEL, 0)
    fresh = digits.copy(place.model)
    for technique in recipe(text):
        place = steps.take(place, technique)
    model, records = recipe(text).apply(fresh, digits)
    assert same(place.model, model)
    assert [r.details["teachers"][0]["name"] for r in (place.records[-1], records[-1])] == ["cnn(width=0.125)"] * 2
    assert place.as_baseline().teacher.key == place.key  # recipes behind it are taught by the baseline itself


def test_rooms_see_their_sources():
    assert sources.rooms.__wrapped__("ops") != sources.rooms.__wrapped__("ops", "models")
    assert sources.rooms.__wrapped__("no_such_room") == sources.digest()


def test_a_users_module_is_in_the_key(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_for_steps.py").write_text("x = 1")
    before = sources.module_hash("mine_for_steps:net(a=1)")
    (tmp_path / "mine_for_steps.py").write_text("x = 2")
    assert before != sources.module_hash("mine_for_steps:net(a=1)") != ""
    assert sources.module_hash("cnn(width=0.5)") == sources.module_hash("no.such.module:net") == ""


def test_what_a_users_module_imports_is_in_the_key(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "own_for_steps"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text(
        "import json, torch.nn as nn\nfrom . import blocks\nfrom beside_for_steps import a\n"
    )
    (package / "blocks.py").write_text("from .net import x\nfrom lessen.models import build\n")  # a circle
    (tmp_path / "beside_for_steps.py").write_text("a = 1")
    files = sources.own_files("own_for_steps.net")
    assert [file.name for file in files] == ["beside_for_steps.py", "__init__.py", "blocks.py", "net.py"]
    before = sources.module_hash("own_for_steps.net:net()")
    (package / "blocks.py").write_text("def half(:")  # broken code has no imports, but still a hash
    assert sources.module_hash("own_for_steps.net:net()") != before


def test_a_users_module_that_a_student_names_is_in_the_key(steps, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    student, plain = recipe("Student(model='student_for_steps:net(width=2)') >> Student(model='cnn(width=0.5)')")
    keys = set()
    for text in ("x = 1", "x = 2"):
        (tmp_path / "student_for_steps.py").write_text(text)
        keys |= {steps.after(at("p"), student).key, steps.after(at("p"), plain).key}
    assert len(keys) == 3


def refuse(self, model, task, run):
    raise Refused("no; do Y first")


def test_a_verdict_is_kept(steps, applied, monkeypatch):
    place = steps.start(MODEL, 0).as_baseline()
    step = recipe("MagnitudePrune()").steps[0]
    monkeypatch.setattr(type(step), "_apply", refuse)
    for _ in range(2):
        with pytest.raises(Refused, match="no; do Y first"):
            steps.take(place, step)
    assert applied == [PRUNE]
    assert [f.name for f in (steps.folder / steps.after(place, step).key).iterdir()] == [VERDICT]


def test_what_may_pass_is_not_kept(steps, monkeypatch):
    place = steps.start(MODEL, 0).as_baseline()
    step = recipe("MagnitudePrune()").steps[0]
    with monkeypatch.context() as patch:
        patch.setattr(type(step), "_apply", lambda *a: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            steps.take(place, step)
    assert steps.take(place, step).records[0].after.nonzeros > 0


def test_a_half_written_step_is_not_there(steps, digits):
    def fails(model, folder):
        (folder / "weights.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    place = steps.start(MODEL, 0).as_baseline()
    step = recipe("MagnitudePrune()").steps[0]
    with pytest.raises(OSError, match="No space"):
        Steps(steps.folder, digits, save=fails).take(place, step)
    after = steps.after(place, step)
    assert not steps.has(after) and not (steps.folder / f"{after.key}.new").exists()
    steps.take(place, step)
    assert [f.name for f in steps.folder.iterdir()] == [after.key]  # no lock, no partial, nothing temporary


@pytest.mark.parametrize("file", ["record.json", "weights.safetensors"])
def test_a_damaged_step_is_put_aside_and_made_again(steps, file):
    place = through(steps, "MagnitudePrune()")
    (steps.folder / place.key / file).write_bytes(b"\0\0\0")
    with pytest.raises(BadStudy, match=r"the kept step MagnitudePrune\(.*\) was damaged .* run again"):
        through(steps, "MagnitudePrune()").model  # noqa: B018
    assert same(through(steps, "MagnitudePrune()").model, place.model)
    assert (steps.folder / f"{place.key}.damaged" / file).read_bytes() == b"\0\0\0"


def test_a_step_that_cannot_be_read_for_now_stays(steps, monkeypatch):
    place = through(steps, "MagnitudePrune()")

    def refuses(*args, **kwargs):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_text", refuses)
        with pytest.raises(BadStudy, match=r"kept step MagnitudePrune\(.*\) cannot be read \(Too many open files"):
            through(steps, "MagnitudePrune()")
    assert same(through(steps, "MagnitudePrune()").model, place.model)


def test_brought_steps_are_never_taken_away(steps, digits):
    place = through(steps, "MagnitudePrune()")
    steps.name_machine()
    (steps.folder / place.key / "weights.safetensors").write_bytes(b"half")
    brought = Steps(steps.folder, digits, brought=True)
    with pytest.raises(BadStudy, match=r"the step MagnitudePrune\(.*\) cannot be used .*; bring .* again"):
        through(brought, "MagnitudePrune()").model  # noqa: B018
    assert (steps.folder / place.key / "weights.safetensors").read_bytes() == b"half"


def test_a_technique_may_change_its_teacher(steps, monkeypatch):
    def spoils(self, model, task, run):
        for value in run.origin.parameters():
            value.data.zero_()
        return model

    base = steps.start(MODEL, 0).as_baseline()
    step = recipe("MagnitudePrune()").steps[0]
    monkeypatch.setattr(type(step), "_apply", spoils)
    steps.take(base, step)
    assert any(value.abs().sum() > 0 for value in base.model.parameters())


def test_a_killed_training_goes_on_from_its_checkpoint(steps, digits, monkeypatch):
    """The checkpoint's folder outlives the failure, is handed in again, and is removed at the end."""
    seen = []

    def stops(self, model, task, run):
        seen.append(sorted(f.name for f in run.checkpoint.iterdir()))
        (run.checkpoint / "state").write_text("epoch 1")
        if len(seen) == 1:
            raise KeyboardInterrupt
        return model

    place = steps.start(MODEL, 0).as_baseline()
    step = recipe("Finetune(epochs=2)").steps[0]
    monkeypatch.setattr(type(step), "_apply", stops)
    with pytest.raises(KeyboardInterrupt):
        steps.take(place, step)
    steps.take(place, step)
    assert seen == [[], ["state"]] and not list(steps.folder.glob("*.partial"))


def test_removing_the_cache_changes_nothing(steps):
    first = through(steps, "Finetune(epochs=1, lr=0.1) >> Int8()")
    weights = {k: v.clone() for k, v in first.model.state_dict().items()}
    shutil.rmtree(steps.folder)
    steps.folder.mkdir()
    again = through(steps, "Finetune(epochs=1, lr=0.1) >> Int8()").model.state_dict()
    assert weights.keys() == again.keys() and all(torch.equal(weights[k], again[k]) for k in weights)


def test_later_steps_are_taught_by_what_the_last_student_replaced(steps):
    first = "Student(width=0.5) >> Finetune(epochs=1) >> LogitDistill(epochs=1)"
    end = through(steps, f"{first} >> Student(width=0.5) >> LogitDistill(epochs=1)")
    taught = [r.details["teachers"][0]["name"] for r in end.records if "teachers" in r.details]
    assert taught == ["cnn(width=0.125)", "cnn(width=0.0625)"]
    assert through(steps, first).records == end.records[:3]


def test_a_teachers_content_decides_the_step(steps, tmp_path, monkeypatch):
    from lessen.models.state import save_model

    folder = tmp_path / "teacher"
    folder.mkdir()
    step = recipe(f"LogitDistill(epochs=1, teacher='{folder}')").steps[0]
    keys = set()
    for seed in (0, 1):
        save_model(steps.start(MODEL, seed).model, folder)
        keys.add(steps.after(at("start"), step).key)
    assert len(keys) == 2
    (folder / "structure.json").write_text('{"builder": {"name": "teacher_for_steps:net", "args": {}}, "specs": {}}')
    monkeypatch.syspath_prepend(tmp_path)
    for line in ("x = 1", "x = 2"):
        (tmp_path / "teacher_for_steps.py").write_text(line)
        keys.add(steps.after(at("start"), step).key)
    assert len(keys) == 4
    save_model(steps.start(MODEL, 1).model, folder)
    place = steps.take(steps.start("cnn(width=0.0625)", 0).as_baseline(), step)
    assert place.records[-1].details["teachers"][0]["name"] == str(folder)
