"""What is loaded, assigned or edited is used or refused: every tensor of every connection, and delays."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ones(n: int, T: int = 12) -> Tensor:
    x = torch.zeros(T, n)
    x[0] = 1
    return x


def run(net: nn.Module, x: Tensor) -> Tensor:
    if isinstance(net, nd.Sparse) and net.delays is None:
        return net(x).detach()
    return nd.unroll(net, x, compile=False).detach()


def make(kind: str, seed: int, ms: int = 3, n: int = 12) -> nd.Sparse:
    """Connections of one size and any number of synapses."""
    random = generator(seed)
    options: dict = {"weight": nd.init.Normal(0.0, 1.0, random), "generator": random}
    if kind != "plain":
        options["delay"] = lambda size: torch.randint(1, ms + 1, size, generator=random).double() * u.ms
    if kind in ("between", "learned"):
        whole = options["delay"]
        options |= {"delay": lambda size: whole(size) + 0.25 * u.ms, "interpolation": "linear"}
    if kind == "learned":
        options["learn"] = ("weight", "delay")
    return nd.FixedProb(n, 10, 0.3, **options)


KINDS = ["plain", "whole", "between", "learned"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("assign", [False, True])
def test_other_numbers_of_synapses_and_delays(kind: str, assign: bool) -> None:
    x = torch.rand(20, 12)
    for saved, loaded in ((make(kind, 1, 2), make(kind, 2, 9)), (make(kind, 3, 9), make(kind, 4, 2))):
        nd.reset_states(loaded) if kind != "plain" else None
        loaded(x[0])
        loaded.load_state_dict(copy.deepcopy(saved.state_dict()), assign=assign)
        assert len(loaded.indices) == len(saved.indices)
        assert (run(loaded, x) - run(saved, x)).abs().max() == 0
        assert repr(loaded.delays) == repr(saved.delays)  # the memory may be longer, for what was on its way
        if kind != "plain":
            assert (nd.unroll(loaded, x) - run(saved, x)).abs().max() < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles(kind: str) -> None:
    x, saved = torch.rand(20, 12), make(kind, 1)
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    for other in (copy.deepcopy(saved), torch.load(file, weights_only=False)):
        assert torch.equal(run(other, x), run(saved, x))
        other.load_state_dict(make(kind, 5, 7).state_dict())
        assert torch.equal(run(other, x), run(make(kind, 5, 7), x))
    assert torch.equal(run(saved, x), run(make(kind, 1), x))


def test_one_weight_and_one_for_each() -> None:
    one, each = nd.FixedProb(5, 4, 0.5, weight=0.3), nd.FixedProb(5, 4, 0.5, weight=nd.init.Normal(0.0, 1.0))
    for saved, loaded in ((one, each), (each, one)):
        saved, loaded = copy.deepcopy(saved), copy.deepcopy(loaded)
        loaded.load_state_dict(saved.state_dict())
        assert torch.equal(loaded(torch.eye(5)), saved(torch.eye(5)))


def test_a_parameter_stays_the_same_object() -> None:
    saved, loaded = (nd.FixedProb(5, 4, p, weight=nd.init.Normal(0.0, 1.0), learn="weight") for p in (0.9, 0.2))
    weight = loaded.weight
    loaded(torch.ones(5)).sum().backward()
    loaded.load_state_dict(saved.state_dict())
    assert loaded.weight is weight
    loaded(torch.ones(5)).sum().backward()
    assert weight.grad.shape == saved.weight.shape


def edits(state: dict) -> list[tuple[dict, str]]:
    n = len(state["indices"])
    return [
        (state | {"indices": state["indices"] * 0 + 50_000_000}, "50000000|out of range|reaches output"),
        (state | {"indices": state["indices"] - 20}, "out of range"),
        (state | {"indices": state["indices"][:-1]}, "indptr in the file"),
        (state | {"indices": state["indices"].float()}, "torch.float32"),
        (state | {"indices": state["indices"][None]}, "row of integers"),
        (state | {"indptr": state["indptr"].flip(0)}, "indptr"),
        (state | {"indptr": state["indptr"][:-1]}, "inputs|indptr"),
        (state | {"indptr": torch.cat((state["indptr"], state["indptr"][-1:]))}, "for 13 inputs, wanted 12"),
        (state | {"weight": torch.ones(n + 1)}, "weight in the file"),
        (state | {"weight": torch.ones(n, 1)}, "weight in the file"),
        (state | {"weight": torch.ones(n, dtype=torch.complex64)}, "weight in the file"),
    ]


@pytest.mark.parametrize("kind", ["plain", "whole"])
@pytest.mark.parametrize("case", range(11))
def test_a_file_that_does_not_fit_changes_nothing(kind: str, case: int) -> None:
    x, loaded = torch.rand(20, 12), make(kind, 1)
    before = run(loaded, x)
    state, words = edits(make(kind, 2).state_dict())[case]
    with pytest.raises(RuntimeError, match=rf"FixedProb\(12, 10\): .*({words})"):
        loaded.load_state_dict(state)
    assert torch.equal(run(loaded, x), before)


@pytest.mark.parametrize(
    ("delay", "words"),
    [
        (-1.0, "zero or positive"),
        (float("nan"), "zero or positive"),
        (float("inf"), "at most"),
        (1e12, "at most"),
        (1.5, "no multiple"),
    ],
)
def test_delays_that_cannot_be(delay: float, words: str) -> None:
    for layer, key in ((make("whole", 1), "delays.delay"), (nd.Delay(4, 2 * u.ms), "delay")):
        state = layer.state_dict()
        state[key] = torch.full_like(state[key], delay)
        with pytest.raises(RuntimeError, match=words if key == "delay" else f"{words}|does not say otherwise"):
            layer.load_state_dict(state)
        with pytest.raises(ValueError, match=f"{words}|must be finite"):
            (layer if key == "delay" else layer.delays).delay = state[key]


def test_edits_in_place_are_seen() -> None:
    """Also those of `.data`, which leave no trace."""
    for value in (10**9, -1, 10):
        for in_place in (lambda c, v: c.indices.__setitem__(0, v), lambda c, v: c.indices.data.__setitem__(0, v)):
            connection = make("plain", 1)
            connection(torch.ones(12))
            in_place(connection, value)
            with pytest.raises(ValueError, match=rf"FixedProb\(12, 10\): .*indices\[0\] = {value}"):
                connection(torch.ones(12))
    connection = make("plain", 1)
    connection.indptr.data[3] = 10**6
    with pytest.raises(ValueError, match=r"FixedProb\(12, 10\): .*indptr"):
        connection(torch.ones(12))
    connection = make("whole", 1)
    connection.indices.data[0] = 10**9
    with pytest.raises(ValueError, match=r"FixedProb\(12, 10\): .*indices\[0\]"):
        connection(torch.ones(12))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("indices", torch.zeros(3, dtype=torch.int32), "weight has|indptr"),
        ("indices", torch.full((40,), 10, dtype=torch.int32), "indices|indptr|weight"),
        ("indices", torch.zeros(39), "indices is Float"),
        ("indptr", torch.zeros(3, dtype=torch.int32), "indptr"),
        ("weight", torch.ones(3), "weight has"),
        ("weight", torch.ones(36, 2), "weight has"),
    ],
)
def test_assigned_tensors_are_checked(name: str, value: Tensor, words: str) -> None:
    value = value.double() if value.is_floating_point() and name == "weight" else value
    connection = make("plain", 1)
    setattr(connection, name, value)
    with pytest.raises((ValueError, TypeError), match=words):
        connection(torch.ones(12))
    connection = make("plain", 1)
    if value.dtype == getattr(connection, name).dtype:
        getattr(connection, name).data = value
        with pytest.raises((ValueError, TypeError), match=words):
            connection(torch.ones(12))


def test_assigned_indices_keep_the_delays() -> None:
    connection = make("whole", 1)
    before, targets = run(connection, ones(12)), connection.post_index.clone()
    connection.indices = targets
    assert torch.equal(run(connection, ones(12)), before)


def test_assigned_delays_of_synapses_are_used() -> None:
    wanted, connection = make("whole", 1, 2), make("whole", 1, 2)
    wanted.delays.delay = wanted.delays.delay + 4
    for change in (
        lambda c: setattr(c.delays, "delay", c.delays.delay + 4),
        lambda c: c.delays.delay.add_(4),
        lambda c: c.delays.delay.data.add_(4),
        lambda c: setattr(c.delays.delay, "data", c.delays.delay + 4),
    ):
        connection = make("whole", 1, 2)
        early = run(connection, ones(12))
        change(connection)
        connection(ones(12)[0])
        late = run(connection, ones(12))
        assert torch.equal(late[4:], early[:-4])
        assert not late[:4].any()


def test_what_is_on_its_way_stays_when_delays_change() -> None:
    connection = make("whole", 1, 3)
    early = run(connection, ones(12))
    for ms in (9, 1):
        nd.reset_states(connection)
        found = [connection(ones(12)[0])]
        connection.delays.delay.fill_(ms)
        found += [connection(row) for row in ones(12)[1:]]
        assert torch.equal(torch.stack(found), early)
        connection = make("whole", 1, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_files_and_networks_in_low_precision(kind: str, dtype: torch.dtype) -> None:
    saved, loaded = make(kind, 1), make(kind, 2)
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in saved.state_dict().items()}
    loaded.load_state_dict(state)
    assert (run(loaded, ones(12)) - run(saved, ones(12))).abs().max() < (0.1 if dtype == torch.bfloat16 else 0.01)
    low = copy.deepcopy(saved).to(dtype)
    if dtype == torch.float32:
        assert (run(low, ones(12).float()) - run(saved, ones(12))).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype: torch.dtype) -> None:
    for kind in KINDS:
        connection = make(kind, 1).float()
        y = connection(torch.ones(2, 12, dtype=dtype))
        assert y.dtype == dtype
        nd.reset_states(connection, 2) if kind != "plain" else None
        assert torch.equal(y, connection(torch.ones(2, 12).float()).to(dtype))


def test_no_synapse_at_all() -> None:
    for options in ({}, {"interpolation": "linear"}, {"interpolation": "linear", "learn": "delay"}):
        for delay in (2 * u.ms, torch.ones(0) * u.ms, nd.init.Constant(2 * u.ms)):
            nothing = nd.FixedProb(5, 4, 0.0, weight=1 * u.nS, delay=delay, **options)
            assert not run(nothing, ones(5)).any()
            repr(nothing)
            other = (
                nd.FixedProb(5, 4, 0.5, weight=1 * u.nS, delay=delay if delay is not None else None, **options)
                if getattr(getattr(delay, "magnitude", 1), "ndim", 0) == 0
                else copy.deepcopy(nothing)
            )
            other.load_state_dict(nothing.state_dict())
            assert not run(other, ones(5)).any()


# --- dense connections ------------------------------------------------------------------------------------------------


def test_shapes_of_dense_connections_are_restored() -> None:
    x, row = torch.rand(3, 4), torch.tensor([1.0, -1.0, 1.0, 1.0])
    for saved, loaded in (
        (nd.OneToOne(4, weight=2.0), nd.OneToOne(4)),
        (nd.OneToOne(4), nd.OneToOne(4, weight=2.0)),
        (nd.AllToAll(4, 4, weight=2.0), nd.AllToAll(4, 4)),
        (nd.AllToAll(4, 4), nd.AllToAll(4, 4, weight=2.0)),
        (nd.SignedLinear(4, 4), nd.SignedLinear(4, 4, row)),
        (nd.SignedLinear(4, 4, row), nd.SignedLinear(4, 4)),
        (nd.MaskedLinear(4, 4, torch.eye(4)), nd.MaskedLinear(4, 4, 1.0)),
        (nd.MaskedLinear(4, 4, row), nd.MaskedLinear(4, 4, torch.eye(4))),
        (nd.ScaledWSLinear(4, 4, mask=row), nd.ScaledWSLinear(4, 4, mask=torch.eye(4))),
        (nd.LoRA(4, 2, 4), nd.LoRA(4, 3, 4)),
    ):
        for assign in (False, True):
            other = copy.deepcopy(loaded)
            other.load_state_dict(saved.state_dict(), assign=assign)
            assert torch.equal(other(x), saved(x))


@pytest.mark.parametrize(
    ("build", "name", "value"),
    [
        (lambda: nd.OneToOne(4), "weight", torch.ones(5)),
        (lambda: nd.OneToOne(4), "weight", torch.ones(1)),
        (lambda: nd.OneToOne(4), "weight", torch.ones(3, 4)),
        (lambda: nd.AllToAll(4, 3), "weight", torch.ones(4, 3)),
        (lambda: nd.AllToAll(4, 3), "weight", torch.ones(3)),
        (lambda: nd.MaskedLinear(4, 3, 1.0), "mask", torch.ones(5)),
        (lambda: nd.MaskedLinear(4, 3, 1.0), "mask", torch.ones(2, 3, 4)),
        (lambda: nd.SignedLinear(4, 3), "sign", torch.ones(4, 3)),
        (lambda: nd.ScaledWSLinear(4, 3), "gain", torch.ones(2, 1)),
        (lambda: nd.ScaledWSLinear(4, 3), "weight", torch.ones(3, 5)),
        (lambda: nd.MaskedLinear(4, 3, 1.0, bias=True), "bias", torch.ones(1)),
        (lambda: nd.LoRA(4, 2, 3), "A", torch.ones(2, 5)),
        (lambda: nd.LoRA(4, 2, 3), "B", torch.ones(3, 1)),
    ],
)
def test_wrong_shapes_in_dense_connections(build, name: str, value: Tensor) -> None:
    connection = build()
    state = connection.state_dict() | {name: value}
    with pytest.raises(RuntimeError, match=rf"(?s){type(connection).__name__}.*{name}"):
        connection.load_state_dict(state)
    own = connection._parameters if name in connection._parameters else connection._buffers
    own[name] = nn.Parameter(value) if name in connection._parameters else value
    with pytest.raises(ValueError, match=rf"{type(connection).__name__}\(4.*{name}"):
        connection(torch.ones(2, 4))


def test_inputs_of_another_size() -> None:
    for connection in (
        nd.OneToOne(4),
        nd.OneToOne(4, weight=1.0),
        nd.AllToAll(4, 4, weight=1.0),
        nd.SignedLinear(4, 4),
    ):
        for x in (torch.ones(1), torch.ones(2, 5), torch.ones(())):
            with pytest.raises(ValueError, match=rf"{type(connection).__name__}\(4, 4\): the input has shape"):
                connection(x)
