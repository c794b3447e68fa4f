"""Bad input gets one clear line and a non-zero exit, and nothing already done is lost."""

from __future__ import annotations

import json
import pickle
import resource
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from command_line import BRIEFLY, TINY, Shell, one_line, process, write_study
from PIL import Image
from typer.testing import CliRunner

from lessen import artifact
from lessen.cli import app
from lessen.store import Store

WATCHED = """
import sys
from contextlib import contextmanager
from lessen import console
from lessen.ops import checkpoints
checkpoints.SECONDS = 0.0
@contextmanager
def progress(title):
    yield lambda share, text: print(text, flush=True)
console.progress = progress
from lessen.cli import main
main()
"""


@pytest.fixture
def shell(monkeypatch, capsys, tmp_path) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capsys)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A good artifact; do not edit it."""
    folder = tmp_path_factory.mktemp("trained") / "base"
    assert CliRunner().invoke(app, ["train", TINY, "-o", str(folder), "--recipe", BRIEFLY]).exit_code == 0
    return folder


@pytest.fixture
def broken(base, tmp_path):
    """A copy to break."""
    return shutil.copytree(base, tmp_path / "broken")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("lst", "no such command 'lst'. Did you mean 'list'? - see lessen --help"),
        ("train digits/cnn", "missing option '-o' / '--output'; see lessen train --help"),
        ("compress digits/cnn -o out", "missing argument 'RECIPE'; see lessen compress --help"),
        ("measure out --xyz", "no such option: --xyz; see lessen measure --help"),
        ("train digits/cnn -o out --seed -1", "'--seed': Input should be greater than or equal to 0; see lessen"),
        ("study demo", "missing option '-o' / '--output'; see lessen study --help"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(shell, line, says):
    assert says in shell.refuses(*line.split(), code=2)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["list", "MagnitudPrune"], "unknown technique, model or task 'MagnitudPrune'; did you mean 'MagnitudePrune'?"),
        (["schema", "recipes"], "unknown schema 'recipes'; did you mean 'recipe'?"),
        (["study", "dmo", "-o", "out"], "unknown study 'dmo'; did you mean 'demo'?"),
        (["study", "none.yaml", "-o", "out"], "there is no study file none.yaml; ready studies: demo"),
        (["study", "dmo", "--show"], "unknown study 'dmo'; did you mean 'demo'?"),
        (["study", "demo", "--seeds", "0,x", "-o", "out"], "seeds '0,x' are no numbers; write for example 0,1,2"),
        (["study", "demo", "--task", "digitz", "-o", "out"], "unknown task 'digitz'; did you mean 'digits'?"),
        (["study", "demo", "--model", "cnn(", "-o", "out"], "cannot read 'cnn('"),
        (["report", "nothing"], "there is no study at nothing/study.db; run `lessen study` first"),
        (["measure", "nothing"], "nothing is no artifact: it has no manifest.json; make one with: lessen compress"),
        (["measure", "nothing", "--runtime", "tflite"], "unknown runtime 'tflite'; known: onnxruntime, openvino"),
        (["measure", "nothing", "--runtime", "opnvino"], "did you mean 'openvino'?"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(shell, tmp_path, args, says):
    assert says in shell.refuses(*args)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("digitz/cnn", "unknown task 'digitz'; did you mean 'digits'?"),
        ("digits/cn", "unknown model 'cn'; did you mean 'cnn'?"),
        ("digits(limt=9)/cnn", "unknown field of digits 'limt'; did you mean 'limit'?"),
        ("digits(limit=1)/cnn", "digits.limit = 1 is out of its range 4 to"),
        ("digits/cnn(widht=1.0)", "unknown field of cnn 'widht'; did you mean 'width'?"),
        ("digits/cnn(width='wide')", "cnn.width = 'wide' is wrong: input should be a valid number"),
        ("digits/resnet20(depth=9)", "resnet20.depth is fixed to 20 by the name; write resnet(depth=9)"),
        ("digits/resnet(depth=9)", "depth"),
        ("digits/no_such_module:net", "cannot import 'no_such_module'"),
        ("folder(path='nowhere')/cnn", "there is no folder nowhere; path= names a folder"),
        ("", "'' is neither an artifact's folder nor TASK/MODEL; write for example digits/cnn"),
        ("nowhere", "'nowhere' is neither an artifact's folder nor TASK/MODEL"),
        ("./nowhere/small", "'./nowhere/small' is neither an artifact's folder nor TASK/MODEL"),
    ],
)
def test_a_start_that_makes_no_sense(shell, tmp_path, start, says):
    assert says in shell.refuses("compress", start, "Int8()", "-o", "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("", "the recipe is empty; write for example 'Int8()'"),
        ("  ", "the recipe is empty"),
        ("Int9()", "unknown technique 'Int9'; did you mean 'Int8'?"),
        ("Int8", "lacks its brackets; write Int8()"),
        ("Int8(", "cannot read 'Int8(': '(' was never closed"),
        ("MagnitudePrune() > Int8()", "joins techniques by '>', which loses some of them; write '>>'"),
        ("MagnitudePrune(0.5)", "'0.5' in 'MagnitudePrune(0.5)' has no name; write field=value"),
        ("MagnitudePrune(sparsity=2.0)", "MagnitudePrune.sparsity = 2.0 is out of its range 0 to 0.99"),
        ("MagnitudePrune(sparsty=0.5)", "unknown field of MagnitudePrune 'sparsty'; did you mean 'sparsity'?"),
    ],
)
def test_a_recipe_that_cannot_be_read(shell, tmp_path, recipe, says):
    assert says in shell.refuses("compress", "digits/cnn", recipe, "-o", "out")
    assert list(tmp_path.iterdir()) == []


def test_a_refused_order_leaves_the_baseline_as_it_was(shell, base, tmp_path):
    args = ("compress", base, "Int8() >> Student(model='cnn(width=0.25)')", "-o", "out")
    assert "Student cannot follow Int8() because" in shell.refuses(*args)
    assert list(tmp_path.iterdir()) == [] and artifact.load(base)


def test_an_output_that_stands_or_cannot_be_written_is_told_before_any_work(shell, base, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "exists already; choose another folder with -o" in shell.refuses("train", TINY, "-o", base)
    assert "exists already" in shell.refuses("compress", base, "Int8()", "-o", "file")
    told = shell.refuses("train", TINY, "-o", "file/out")
    assert f"file/out cannot be written (Not a directory: {tmp_path / 'file'}); choose another" in told
    assert "No such file or directory: /proc" in shell.refuses("train", TINY, "-o", "/proc/none/out")
    file = write_study(tmp_path / "s.yaml", "Int8()")
    assert "file cannot be a run folder (it is a file)" in shell.refuses("study", file, "-o", "file")
    assert (tmp_path / "file").read_text() == "mine"


def images(folder, *classes):
    random = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / name / f"{i}.png")


def test_a_folder_of_images_with_one_class_or_a_broken_file(shell, tmp_path):
    images(tmp_path / "one", "cat")
    told = shell.refuses("train", "folder(path='one')/cnn", "-o", "out")
    assert "one has only one class, 'cat'; put the images of each of at least two classes" in told
    images(tmp_path / "two", "cat", "dog")
    file = tmp_path / "two" / "dog" / "7.png"
    for content in (file.read_bytes()[:120], b"no image"):
        file.write_bytes(content)
        told = shell.refuses("train", "folder(path='two')/cnn", "-o", "out")
        assert "cannot read the image two/dog/7.png" in told and "mend it or take it away" in told


def test_a_data_file_that_is_truncated_or_altered(shell, tmp_path):
    content = pickle.dumps({b"data": np.zeros((4, 3072), np.uint8), b"fine_labels": [0, 1, 2, 3]})
    (tmp_path / "data").mkdir()
    for name in ("train", "test", "meta"):
        (tmp_path / "data" / name).write_bytes(content[:-50])
    told = shell.refuses("train", "cifar100(data='data')/cnn", "-o", "out")
    assert "data/train is truncated or altered: its MD5 is" in told and "fetch it again" in told
    told = shell.refuses("train", "cifar100(data='data', verify=False)/cnn", "-o", "out")
    assert "cannot read data/train as a CIFAR pickle" in told and "truncated" in told
    assert "lacks data_batch_1" in shell.refuses("train", "cifar10(data='data')/cnn", "-o", "out")


@pytest.mark.parametrize("verb", ["measure", "compress"])
@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "structure.json"])
def test_an_artifact_with_a_flipped_byte_or_a_missing_file(shell, broken, verb, name):
    args = (verb, broken) if verb == "measure" else (verb, broken, "Int8()", "-o", "out")
    content = bytearray((broken / name).read_bytes())
    content[len(content) // 2] ^= 1
    (broken / name).write_bytes(content)
    assert f"{name} was altered: its SHA-256 is not the manifest's" in shell.refuses(*args)
    (broken / name).unlink()
    assert f"{name} is missing; copy the whole folder again" in shell.refuses(*args)


def test_an_artifact_without_a_readable_manifest(shell, broken):
    (broken / "manifest.json").write_text('{"format": 1,')
    assert "manifest.json cannot be read" in shell.refuses("measure", broken)
    (broken / "manifest.json").unlink()
    assert "is no artifact: it has no manifest.json" in shell.refuses("measure", broken)


class Harmful:
    def __reduce__(self):
        return open, ("ran", "w")


def test_a_pickled_checkpoint_is_not_opened(shell, tmp_path):
    torch.save({"state_dict": Harmful()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Harmful(), protocol=4))
    for name in ("zip.pt", "plain.pkl"):
        told = shell.refuses("compress", name, "Int8()", "-o", "out")
        assert "is a file; an artifact is a folder" in told and "pickled checkpoint can run code" in told
        told = shell.refuses("compress", TINY, "Int8()", "-o", "out", "--weights", name)
        assert "is a pickle of more than tensors and would run code when opened" in told and "--trust-pickle" in told
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_none_or_belong_to_another_model(shell, base, tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    given = ("compress", "digits/cnn(width=0.5)", "Int8()", "-o", "out", "--weights")
    assert "text.pt cannot be read as weights" in shell.refuses(*given, "text.pt")
    assert "tensor.pt holds a Tensor; save the model's state_dict()" in shell.refuses(*given, "tensor.pt")
    assert "none.pt does not exist" in shell.refuses(*given, "none.pt")
    told = shell.refuses(*given, base / "weights.safetensors")
    assert "does not fit the model: 'features.conv1_1.conv.weight' is (8, 1, 3, 3), expected (16, 1, 3, 3)" in told
    other = ("compress", "digits/resnet8", "Int8()", "-o", "out", "--weights", base / "weights.safetensors")
    assert "it lacks" in (told := shell.refuses(*other)) and "others, such as 'features.conv1_1" in told


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"modle": "cnn"}, "s.yaml: unknown field of Study 'modle'; did you mean 'model'?"),
        ({"model": "cn"}, "unknown model 'cn'; did you mean 'cnn'?"),
        ({"task": "digitz"}, "unknown task 'digitz'; did you mean 'digits'?"),
        ({"baseline": "Finetun()"}, "s.yaml: the baseline, 'Finetun()': unknown technique 'Finetun'; did you mean"),
        ({"seeds": "[-1]"}, "s.yaml: Study.seeds.0 = -1 is wrong"),
        ({"seeds": "[99999999999]"}, "s.yaml: Study.seeds.0 = 99999999999 is wrong"),
        ({"name": "[a"}, "s.yaml is no YAML"),
    ],
)
def test_a_study_file_with_a_fault_leaves_no_run_folder(shell, tmp_path, changed, says):
    file = write_study(tmp_path / "s.yaml", "Int8()", **changed)
    assert says in shell.refuses("study", file, "-o", "run")
    assert not (tmp_path / "run").exists()


def test_a_refused_recipe_in_a_study_is_a_row_and_a_failed_exit(shell, tmp_path):
    file = write_study(tmp_path / "s.yaml", "Int8() >> Student(model='cnn(width=0.25)')")
    ran = shell("study", file, "-o", "run", "--json")
    assert ran.code == 1
    assert [row["status"] for row in json.loads(ran.out)["trials"]] == ["done", "failed"]
    last = ran.err.splitlines(keepends=True)[-1]
    told = one_line(last)
    assert told.startswith("1 of 2 trials failed, the first 'Int8() >> Student(") and "Student cannot follow" in told
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_full_disk_leaves_no_half_artifact(base, tmp_path):
    def small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))

    job = process("compress", base, "Int8()", "-o", tmp_path / "out", preexec_fn=small_files_only)
    out, err = job.communicate()
    assert (job.returncode, out) == (1, "")
    assert "the disk is full" in (told := one_line(err)) and "nothing of it was left; free space" in told
    assert list(tmp_path.iterdir()) == [] and artifact.load(base)


def test_an_unexpected_error_is_one_line_and_debug_shows_where(shell, monkeypatch):
    def fault(*_):
        raise ZeroDivisionError("a fault\nof ours")

    monkeypatch.setattr("lessen.catalog.describe", fault)
    told = shell.refuses("list", "--json")
    assert told == "unexpected ZeroDivisionError: a fault of ours; the same command with --debug shows where"
    with pytest.raises(ZeroDivisionError):
        shell("list", "--json", "--debug")


def test_ctrl_c_stops_a_training_that_then_goes_on(tmp_path):
    folder = tmp_path / "out"
    command = ("train", TINY, "-o", folder, "--recipe", "Finetune(epochs=30)")
    job = process(*command, code=WATCHED)
    assert job.stdout and next(line for line in job.stdout if line.startswith("epoch 4/"))
    job.send_signal(signal.SIGINT)
    _, err = job.communicate()
    assert (job.returncode, "the same command goes on" in one_line(err)) == (130, True)
    assert not folder.exists() and list((tmp_path / ".out.partial").glob("*/training-*.pt"))
    again = process(*command, code=WATCHED)
    out, err = again.communicate()
    assert (again.returncode, err) == (0, "")
    assert "epoch 30/30" in out and "epoch 2/30" not in out
    assert [len(r.history) for r in artifact.load(folder).manifest.records] == [30]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_ctrl_c_stops_a_study_and_keeps_its_rows(shell, tmp_path):
    file, run = write_study(tmp_path / "s.yaml", "Finetune(epochs=1000)"), tmp_path / "run"
    job = process("study", file, "-o", run)
    assert job.stdout and next(line for line in job.stdout if "baseline" in line and "done" in line)
    time.sleep(0.5)  # into the long training, most likely; anywhere else it must hold as well
    job.send_signal(signal.SIGINT)
    _, err = job.communicate()
    assert (job.returncode, "stopped; what was done is kept" in one_line(err)) == (130, True)
    with Store(run / "study.db") as store:
        assert store.done() == {("", 0)}
    shorter = write_study(tmp_path / "s.yaml", "MagnitudePrune()")
    assert "1 done already" in (shown := shell.done("study", shorter, "-o", run))
    assert "2 trials done, 0 failed" in shown
