"""Who feeds whom: batch norms and their convolutions, and where quantizers stand, worked out by hand on small nets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lessen.ops import layers
from lessen.ops.graph import Places, last, norm_pairs, quantizer_places, trace


class Residual(nn.Module):
    """conv-bn-relu, conv-bn added to a skip, relu, pools, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1, self.r1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.c2, self.b2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.add, self.r2 = layers.Add(), nn.ReLU()
        self.pool, self.gap, self.fc = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.r1(self.b1(self.c1(x)))
        x = self.r2(self.add(x, self.b2(self.c2(x))))
        return self.fc(self.gap(self.pool(x)).flatten(1))


class Dense(nn.Module):
    """Pre-activation with a Cat: the second batch norm reads a concatenation, not a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.b1, self.r1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.c2, self.cat = nn.Conv2d(4, 4, 3, padding=1), layers.Cat()
        self.b2, self.silu, self.gap, self.fc = nn.BatchNorm2d(8), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c1(x)
        x = self.cat(x, self.c2(self.r1(self.b1(x))))
        return self.fc(torch.flatten(self.gap(self.silu(self.b2(x))), 1))


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(x)
        return self.fc(x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3)))


def test_a_batch_norm_belongs_to_the_convolution_it_alone_reads() -> None:
    assert norm_pairs(layers.own(Residual())) == {"b1": "c1", "b2": "c2"}
    assert norm_pairs(Residual()) == {"b1": "c1", "b2": "c2"}  # torch's own layers too
    assert norm_pairs(Dense()) == {}  # c1 has a second reader, b2 reads the Cat


def test_what_runs_twice_belongs_to_nobody() -> None:
    class Twice(nn.Module):
        def __init__(self, share: str) -> None:
            super().__init__()
            self.share = share
            self.c1, self.c2, self.b1, self.b2 = (
                nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            x = self.b1(self.c1(x))
            return self.b1(self.c2(x)) if self.share == "norm" else self.b2(self.c1(x))

    assert norm_pairs(Twice("norm")) == {}
    assert norm_pairs(Twice("convolution")) == {}


def test_quantizers_of_a_residual_net() -> None:
    # c1-b1-r1 is one kernel; c2-b2 ends at b2 (its reader adds two tensors); add-r2 is one kernel; the max pool's
    # values are r2's; the average pool's are read through a flatten by fc, which has its own; fc makes the logits
    places = quantizer_places(layers.own(Residual()))
    assert places == Places(outputs=("r1", "b2", "r2"), inputs=("c1", "fc"), traced=True)


def test_quantizers_of_a_dense_net() -> None:
    # c1 has two readers; a batch norm after a Cat is its own kernel, and SiLU runs after it, not inside
    places = quantizer_places(layers.own(Dense()))
    assert places == Places(("c1", "r1", "c2", "cat", "b2", "silu"), ("c1", "fc"), True)


def test_a_method_that_makes_new_values_ends_the_quantized_tensor() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.r, self.fc = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.r(self.c(x)).mean((2, 3)))

    assert quantizer_places(layers.own(Mean())) == Places(("r",), ("c", "fc"), True)


@pytest.mark.parametrize(
    ("tail", "inputs"), [(nn.Flatten(), ("0", "3")), (nn.Dropout(), ("0",)), (nn.Identity(), ("0",))]
)
def test_layers_that_pass_values_on_need_no_quantizer(tail: nn.Module, inputs: tuple[str, ...]) -> None:
    model = layers.own(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), tail, nn.Linear(4, 2)))
    assert quantizer_places(model) == Places(("1",), inputs, True)


@pytest.mark.parametrize(
    "end",
    [
        nn.LogSoftmax(1),
        nn.Sequential(nn.Flatten(), nn.Softmax(1)),
        lambda x: nn.functional.log_softmax(x, 1),
        lambda x: x.reshape(-1, 4).softmax(-1),
        lambda x: torch.softmax(x, 1).flatten(1),
    ],
)
def test_logits_get_no_quantizer_either_where_the_model_makes_shares_of_them(end) -> None:
    class Shares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.r, self.b, self.end = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), end

        def forward(self, x: Tensor) -> Tensor:
            return self.end(self.b(self.r(self.a(x))))

    assert quantizer_places(layers.own(Shares())) == Places(("r",), ("a",), True)


def test_shares_within_the_net_are_no_logits() -> None:
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(x * self.a(x).softmax(1))

    assert quantizer_places(layers.own(Gate())) == Places(("a",), ("a", "b"), True)


def test_a_pool_that_a_convolution_reads_gets_a_quantizer() -> None:
    model = layers.own(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 1)))
    assert quantizer_places(model) == Places(("1", "2"), ("0",), True)


def test_a_net_that_cannot_be_traced_gets_quantizers_on_every_input() -> None:
    model = layers.own(Untraceable())
    assert trace(model) is None and norm_pairs(model) == {}
    assert quantizer_places(model) == Places((), ("c", "fc"), False)


class HeadFirst(nn.Module):
    """Defined in no order of computing; while it trains, a second head computes last."""

    def __init__(self, by_hand: bool) -> None:
        super().__init__()
        self.by_hand = by_hand
        self.fc, self.c, self.aux = nn.Linear(4, 2, bias=False), nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.c(x).mean((2, 3))
        y = nn.functional.linear(x, self.fc.weight) if self.by_hand else self.fc(x)
        return (y, self.aux(x)) if self.training else y


@pytest.mark.parametrize("by_hand", [False, True])
def test_the_last_layer_is_the_one_that_computes_last(by_hand: bool) -> None:
    model = HeadFirst(by_hand)
    assert last(model, (nn.Linear, nn.Conv2d)) is model.fc and model.training
    assert last(model, (nn.Conv2d,)) is model.c
    assert last(model, (nn.LayerNorm,)) is None


def test_of_a_net_that_cannot_be_traced_the_last_layer_is_the_one_defined_last() -> None:
    model = Untraceable()
    assert last(model, (nn.Linear, nn.Conv2d)) is model.fc


def test_tracing_keeps_our_layers_whole() -> None:
    graph = trace(layers.own(Residual()))
    assert graph is not None
    called = [n.target for n in graph.nodes if n.op == "call_module"]
    assert called == ["c1", "b1", "r1", "c2", "b2", "add", "r2", "pool", "gap", "fc"]
