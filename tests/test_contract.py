"""The contract of techniques, held by every one in the catalog because it is there."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pytest
import torch
from contract_ground import (
    NAMES,
    NET,
    PAIRS,
    SEED,
    After,
    after,
    beyond,
    digest,
    fields,
    logits,
    net,
    quick,
    rebuilt,
    samples,
    task,
    won,
)

from lessen import catalog
from lessen.core.errors import BadField, Refused, UnknownName
from lessen.core.record import Record
from lessen.core.run import Run
from lessen.core.technique import Range, Technique
from lessen.ops import devices, layers

every = pytest.mark.parametrize("name", NAMES)


def test_the_catalog_finds_a_family_of_techniques() -> None:
    assert {
        "MagnitudePrune",
        "NMPrune",
        "LotteryTicket",
        "ChannelPrune",
        "Int8",
        "Student",
        "LogitDistill",
        "Finetune",
        "LowRank",
    } <= set(NAMES)


# --- the value -------------------------------------------------------------------------------------------------


@every
def test_frozen_and_final(name: str) -> None:
    cls, value = catalog.technique(name), quick(name)
    with pytest.raises(TypeError, match="final"):
        type("More", (cls,), {})
    for field in fields(name):
        with pytest.raises(ValueError, match="frozen"):
            setattr(value, field.name, field.default)
    assert cls.apply is Technique.apply and cls.__str__ is Technique.__str__ and hash(value) == hash(quick(name))
    assert cls.__bases__ == (Technique,)


@every
def test_one_file_one_technique(name: str) -> None:
    module = import_module(catalog.techniques()[name])
    assert (
        module.__name__.rpartition(".")[2] == re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    )
    found = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Technique)]
    assert found == [Technique, catalog.technique(name)] or set(found) == {Technique, catalog.technique(name)}
    assert catalog.family(name) in catalog.ROOMS


@every
def test_it_is_explained(name: str) -> None:
    cls = catalog.technique(name)
    assert re.search(r"(19|20)\d\d", cls.paper) and re.search(r"arXiv:\d{4}\.\d{4,5}|doi:|10\.\d{4}", cls.paper), (
        cls.paper
    )
    assert cls.__doc__ and cls.__doc__.strip() and (sys.modules[cls.__module__].__doc__ or "").strip()
    for field in fields(name):
        doc = field.note.doc
        assert doc == doc.strip() and 8 <= len(doc) <= 100 and "\n" not in doc, f"{field.name}: {doc!r}"


@every
def test_its_text_comes_back(name: str) -> None:
    cls = catalog.technique(name)
    values = [quick(name), cls()] + [cls(**{f.name: v}) for f in fields(name) for v in f.others()]
    assert len(values) > len(fields(name))
    for value in values:
        text = str(value)
        assert catalog.recipe(text).steps == (value,)
        assert eval(text, {name: cls}) == value
    assert set(re.findall(r"(\w+)=", str(cls()))) == set(cls.shown) <= set(cls.model_fields)


@every
def test_out_of_range_is_refused_by_name(name: str) -> None:
    cls = catalog.technique(name)
    for field in fields(name):
        if field.range is None:
            continue
        several = get_origin(field.kind) is tuple
        whole = int in (field.kind, *get_args(field.kind)[:1])
        wrong = [field.range.low - 1, field.range.high + 1] if whole else []
        wrong += [] if whole else [beyond(field.range.low, -1), beyond(field.range.high, 1), float("nan"), float("inf")]
        for value in wrong:
            value = int(value) if whole else value
            with pytest.raises(BadField, match=rf"^{name}\.{field.name} = .* is out of its range"):
                cls(**{field.name: (value,) if several else value})
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert field.range.contains(field.default)


@every
def test_types_are_strict(name: str) -> None:
    cls = catalog.technique(name)
    wrong: dict[Any, tuple[Any, ...]] = {
        int: (True, "10", 1.0, None),
        float: (True, "0.5"),
        bool: (1, "yes"),
        str: (3,),
    }
    for field in fields(name):
        for value in wrong.get(field.kind, ([1], {"a": 1}, 12345, "no such choice")):
            with pytest.raises(BadField, match=rf"^{name}\.{field.name}"):
                cls(**{field.name: value})


@every
def test_an_unknown_field_names_the_nearest(name: str) -> None:
    cls = catalog.technique(name)
    for field in fields(name):
        with pytest.raises(UnknownName, match=rf"unknown field of {name} '{field.name}x'; did you mean '{field.name}'"):
            cls(**{f"{field.name}x": 1})
    near = f"{name}x"
    with pytest.raises(UnknownName, match=f"unknown technique '{near}'; did you mean '{name}'"):
        catalog.recipe(f"{near}()")


@every
def test_its_schema_builds(name: str) -> None:
    schema = json.loads(json.dumps(catalog.technique(name).model_json_schema()))
    assert schema["additionalProperties"] is False and list(schema["properties"]) == [f.name for f in fields(name)]
    for field in fields(name):
        told = schema["properties"][field.name]
        assert told["description"] == field.note.doc and "default" in told
        if isinstance(field.note, Range) and "type" in told:
            assert (told["minimum"], told["maximum"]) == (field.note.low, field.note.high)


# --- the verb --------------------------------------------------------------------------------------------------


@every
def test_the_input_stays_untouched(name: str) -> None:
    model, given = copy.deepcopy(net()), Run(origin=net())
    before, origin = digest(model), digest(net())
    changed, record = quick(name).apply(model, task(), seed=SEED, run=given)
    assert digest(model) == before and digest(net()) == origin and given == Run(origin=net())
    mine = {p.data_ptr() for p in model.parameters()}
    assert not mine & {p.data_ptr() for p in changed.parameters()}
    assert (record.technique, record.seed) == (str(quick(name)), SEED)
    assert record.before == task().cost(model) and record.after == task().cost(changed)
    assert len(record.history) == (1 if type(quick(name)).trains else 0)
    assert Record.model_validate_json(record.model_dump_json()) == record


@every
def test_the_seed_alone_decides(name: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    state, one = torch.get_rng_state(), quick(name).apply(net(), task(), seed=SEED)[0]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    np.random.seed(2)
    other = quick(name).apply(net(), task(), seed=SEED)[0]
    assert digest(one) == digest(other)


@pytest.mark.parametrize("name", [name for name in NAMES if "precision" in catalog.technique(name).model_fields])
def test_mixed_precision_trains_as_float32_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "emulated", lambda precision: False)  # slow is good enough here
    asked = quick(name) if catalog.technique(name).trains else quick(name).model_copy(update={"epochs": 1})
    (exact, e), (mixed, m) = (
        asked.model_copy(update={"precision": kind}).apply(net(), task(), seed=SEED) for kind in ("32", "bf16")
    )
    assert m.history[0].loss == pytest.approx(e.history[0].loss, rel=0.05)
    assert m.history[0].loss != e.history[0].loss  # or nothing was computed in bfloat16
    kinds = [{t.dtype for t in model.state_dict().values()} for model in (exact, mixed)]
    assert kinds[0] == kinds[1] and torch.bfloat16 not in kinds[1]


@every
def test_a_neutral_setting_changes_no_output(name: str) -> None:
    cls = catalog.technique(name)
    if cls.neutral is None:
        assert won(after(name).model) != won(net()), "a technique that changes no count must declare what is neutral"
        return
    changed, record = cls(**cls.neutral).apply(net(), task(), seed=SEED)
    assert torch.equal(logits(changed), logits(net()))
    assert record.after == record.before and record.history == ()


@every
def test_what_it_leaves_can_be_trained_stored_and_used(name: str) -> None:
    sound(after(name))


def sound(state: After | Refused) -> None:
    """The model answers, goes on training with what is masked at zero, and comes back from specs and tensors."""
    assert isinstance(state, After)
    expected = logits(state.model)
    assert expected.shape == (100, 10) and torch.isfinite(expected).all()
    assert torch.equal(logits(rebuilt(state.model)), expected)
    assert won(rebuilt(state.model)) == won(state.model)
    private = copy.deepcopy(state.model).train()
    private(samples(8)).square().sum().backward()
    for path, layer in layers.weighted(private).items():
        if layer.mask is not None:
            assert not layer.weight[~layer.mask].any(), path
        if layer.weight.requires_grad:  # a whitening stem is frozen by its builder
            grad = layer.weight.grad
            assert grad is not None and torch.isfinite(grad).all(), path
            assert layer.mask is None or not grad[~layer.mask].any(), path


# --- the order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_pair_composes_and_keeps_what_was_won_or_is_refused(first: str, second: str) -> None:
    one, both = after(first), after(first, second)
    assert isinstance(one, After), f"{first} refuses a plain net: {one}"
    if isinstance(both, Refused):
        said = str(both)
        assert re.match(rf"{second} cannot follow .+ because .+; (do|put) .+", said) and "\n" not in said, said
        return
    assert not won(one.model).lost(won(both.model))
    if not catalog.technique(second).trains:
        assert both.records[-1].after.nonzeros <= one.records[-1].after.nonzeros
    sound(both)


def test_refusals_are_the_exception() -> None:
    refused = [pair for pair in PAIRS if isinstance(after(*pair), Refused)]
    schools = {n for n in NAMES if catalog.family(n) == "distill" and catalog.technique(n).trains}
    assert {(name, "LotteryTicket") for name in NAMES} <= set(refused), (
        "fresh weights would throw away what came before"
    )
    for fresh in ("Student", "ProgressiveDistill", "SelfDistill"):
        assert {(name, fresh) for name in NAMES} - {(n, fresh) for n in schools} <= set(refused)
    assert len(refused) <= len(NAMES) + 0.2 * len(PAIRS), refused
    assert all(any((name, second) not in refused for second in NAMES) for name in NAMES)


# --- the import ------------------------------------------------------------------------------------------------

LEAN = f"""
import json, sys
import lessen, lessen.report
from lessen import catalog
names = list(catalog.techniques())
assert names == {list(NAMES)!r} and set(names) <= set(dir(lessen))
for name in names:
    recipe = lessen.recipe(f"{{name}}() >> {{name}}()")
    assert str(recipe) == " >> ".join([str(catalog.technique(name)())] * 2)
    assert getattr(lessen, name) is catalog.technique(name)
    json.dumps(catalog.technique(name).model_json_schema())
print(sorted({{"torch", "onnx", "onnxruntime", "sklearn", "lightning_fabric"}} & sys.modules.keys()))
"""


def test_listing_parsing_schemas_and_reports_import_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", LEAN], capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_techniques_stand_on_core_alone() -> None:
    for module in set(catalog.techniques().values()):
        source = Path(import_module(module).__file__ or "").read_text(encoding="utf-8")
        found = re.findall(r"^(?:from|import) ([\w.]+)", source, re.MULTILINE)
        assert all(f.startswith("lessen.core") or f.split(".")[0] in sys.stdlib_module_names for f in found), module


def test_the_tiny_net_has_learned_something() -> None:
    score = task().evaluate(net(), "test")
    assert score is not None and score > 0.5, f"{NET} scores {score}: pairs on an untrained net show little"
