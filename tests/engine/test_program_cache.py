"""A program is found again quickly, but never for a module that has changed."""

from __future__ import annotations

import copy
import dataclasses
import gc
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import program_cache

XS = 2 * torch.rand(4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@dataclasses.dataclass
class Settings:
    gain: float = 1.0


class Leak(nd.Dynamics):
    r = nd.state(0.0)

    def __init__(self, size: int, **values: Any):
        super().__init__(size, **values)
        self.gain, self.gains, self.table, self.settings = 1.0, [1.0], {"gain": 1.0}, Settings()
        self.pair = ([1.0], 2.0)
        self.register_buffer("offset", torch.zeros(size))

    def step(self, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        gain = self.gain * self.gains[0] * self.table["gain"] * self.settings.gain * self.pair[0][0]
        r = 0.5 * r + gain * x + self.offset
        return r, r


def looked_up(net: nn.Module, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a program is looked up by its fingerprint in two calls."""
    times, find = [], program_cache.fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(program_cache, "fingerprint", lambda *given: times.append(1) or find(*given))
        for _ in range(2):
            nd.unroll(net, XS)
    return len(times)


def test_the_same_module_is_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nd.LIF(3)
    for _ in range(2):
        nd.unroll(net, XS)
    assert looked_up(net, monkeypatch) == 0
    net.R.data.mul_(2)  # a value, which is no part of a program
    assert looked_up(net, monkeypatch) == 0
    net.note = "something else"
    assert looked_up(net, monkeypatch) == 1


def test_modules_of_a_kind_share_a_program(compilations: list[int]) -> None:
    xs = torch.rand(4, 2, 17)
    nd.unroll(nd.LIF(17), xs)
    before = len(compilations)
    assert before > 0
    for tau in (3, 4, 5):
        net = nd.LIF(17, tau=tau * u.ms)
        assert torch.equal(nd.unroll(net, xs), nd.unroll(net, xs, compile=False))
    assert len(compilations) == before


def test_few_programs_are_kept(no_programs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_cache, "_KEPT", 2)
    for size in (3, 4, 5, 3):
        net, xs = nd.Expon(size), torch.rand(4, 2, size)
        torch.testing.assert_close(nd.unroll(net, xs), nd.unroll(net, xs, compile=False))
        assert len(program_cache._shared) <= 2


CHANGES: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda net: setattr(net, "gain", 2.0),
    "list": lambda net: net.gains.__setitem__(0, 3.0),
    "dict": lambda net: net.table.__setitem__("gain", 4.0),
    "dataclass": lambda net: setattr(net.settings, "gain", 5.0),
    "list in a tuple": lambda net: net.pair[0].__setitem__(0, 6.0),
    "buffer": lambda net: setattr(net, "offset", torch.ones(())),
    "value of a buffer": lambda net: net.offset.add_(1),
    "function": lambda net: setattr(net, "step", lambda x, r: (x, r)),
}


def test_programs_can_be_forgotten(compilations: list[int]) -> None:
    net = nd.LIF(3)
    nd.unroll(net, XS)
    before = len(compilations)
    program_cache.clear()
    nd.unroll(net, XS)
    assert len(compilations) == 2 * before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_module(change: Callable[[Any], Any]) -> None:
    net = Leak(3)
    before = nd.unroll(net, XS)
    nd.unroll(net, XS)
    change(net)
    after = nd.unroll(net, XS)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, nd.unroll(net, XS, compile=False))


def test_a_hook_and_a_module_inside(unsaid: None) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Leak(3)

        def forward(self, x: Tensor) -> Tensor:
            return 2 * self.inner(x)

    net = Outer()
    before = nd.unroll(net, XS)
    nd.unroll(net, XS)
    net.inner = nd.LIF(3)
    torch.testing.assert_close(nd.unroll(net, XS), nd.unroll(net, XS, compile=False))
    net.inner, calls = Leak(3), []
    torch.testing.assert_close(nd.unroll(net, XS), before)
    net.inner.register_forward_hook(lambda *given: calls.append(1))
    with pytest.warns(nd.EagerWarning, match="hooks"):
        nd.unroll(net, XS)
    assert len(calls) >= len(XS)


def test_a_parameter_that_is_learned_from_now_on() -> None:
    net = nd.LIF(3, learn="tau")
    (parameter,) = net.parameters()
    parameter.requires_grad_(False)
    xs = XS.clone().requires_grad_()
    for _ in range(2):
        nd.unroll(net, xs).sum().backward()
    assert parameter.grad is None
    parameter.requires_grad_(True)
    nd.unroll(net, xs).sum().backward()
    assert parameter.grad is not None


class Tied(nn.Module):
    """Three linear layers in a feedback, of which some share their weight."""

    def __init__(self, first: str, second: str, whole: bool):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.lif = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3), nd.LIF(3)
        if whole:
            setattr(self, first, getattr(self, second))
        else:
            getattr(self, first).weight = getattr(self, second).weight

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(x + self.a(x) + 2 * self.b(x) + 3 * self.c(x))


def test_tied_parameters() -> None:
    for whole, names in itertools.product((True, False), (("b", "a"), ("c", "b"), ("c", "a"), ("a", "a"))):
        net = Tied(*names, whole)
        for later in ("b", "a", "c"):
            with torch.set_grad_enabled(names == ("b", "a")):  # which compiles for longer
                for _ in range(2):
                    torch.testing.assert_close(nd.unroll(net, XS), nd.unroll(net, XS, compile=False))
            if whole:
                net.b = getattr(net, later)
            else:
                net.b.weight = getattr(net, later).weight


def test_final_states_are_tensors_of_their_own() -> None:
    net = nd.LIF(3)
    _, states = nd.unroll(net, XS, return_states=True)
    assert states["V"].untyped_storage().nbytes() == states["V"].nbytes
    states["V"].mul_(torch.ones(2, 3, requires_grad=True))


def test_autocast_and_dtype() -> None:
    net = nd.LIF(3, dt=0.5 * u.ms)
    for dtype in (torch.float64, torch.float32, torch.float64):
        net.to(dtype)
        for _ in range(2):
            assert nd.unroll(net, XS.to(dtype)).dtype == dtype


@pytest.mark.parametrize("make", [Leak, nd.LIF, nd.STP], ids=["user", "LIF", "STP"])
def test_modules_are_not_held(make: Callable[[int], nn.Module]) -> None:
    net = make(3)
    nd.unroll(net, XS)
    seen = weakref.ref(net)
    del net
    gc.collect()
    assert seen() is None


SCALE = 1.0


class ReadsAGlobal(nd.Dynamics):
    r = nd.state(0.0)

    def step(self, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        r = 0.5 * r + SCALE * x
        return r, r


def test_a_global_variable_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    net, other = ReadsAGlobal(3), ReadsAGlobal(3)
    for scale in (1.0, 3.0, 1.0, 5.0):
        monkeypatch.setitem(globals(), "SCALE", scale)
        for module in (net, other):
            torch.testing.assert_close(nd.unroll(module, XS), nd.unroll(module, XS, compile=False))


def test_with_and_without_gradients() -> None:
    net = nd.LIF(3, learn="tau")
    for _ in range(2):
        with torch.no_grad():
            assert not nd.unroll(net, XS).requires_grad
        assert nd.unroll(net, XS).requires_grad
        with torch.inference_mode():
            assert nd.unroll(net, XS).is_inference()
    assert torch.autograd.grad(nd.unroll(net, XS).sum(), list(net.parameters()))[0].abs().sum() > 0


def test_layers_of_a_network_are_not_held() -> None:
    net = nn.Sequential(nd.LIF(3), nd.Expon(3), nn.Linear(3, 3))
    nd.unroll(net, XS)
    seen = [weakref.ref(layer) for layer in (net, *net)]
    del net
    gc.collect()
    assert [each() for each in seen] == [None] * 4


@pytest.mark.parametrize(
    "make", [lambda: nd.Delay(3, 2 * u.ms), lambda: nd.LIF(3), lambda: nd.Recurrent(nd.LIF(3), nn.Linear(3, 3))]
)
def test_states_are_no_change(make, monkeypatch):
    """Calls after the first find the program by a look at the module alone."""
    net, xs = make(), torch.rand(4, 2, 3)
    nd.unroll(net, xs)

    def found(*given):
        raise AssertionError("looked for a program")

    monkeypatch.setattr(program_cache, "_found", found)
    nd.unroll(net, xs)
    nd.unroll(net, 2 * xs)


class Named(nn.Module):
    """It calls something of its own `states`, as a Dynamics does."""

    def __init__(self):
        super().__init__()
        self.states, self.neuron = ["gain"], nd.LIF(3)
        self.register_buffer("gain", torch.ones(3))
        self.doubled = nn.Buffer(2 * torch.ones(3))

    def forward(self, x):
        return self.neuron(x) * (self.gain if self.gain is not self.doubled else 0)


def test_a_buffer_that_a_module_calls_a_state_may_be_replaced():
    net = Named()
    assert nd.unroll(net, 3 * XS).any()
    net.gain = net.doubled
    assert not nd.unroll(net, 3 * XS).any()


class Viewing(nd.Dynamics):
    """Its step reads views of its parameters, which are computed once a call."""

    r = nd.state(0.0)

    def __init__(self):
        super().__init__(3)
        self.W, self.g = nn.Parameter(torch.eye(3)), nn.Parameter(torch.linspace(0.2, 1.2, 6).view(3, 2))

    def step(self, x, r):
        r = 0.5 * r + torch.tanh(x @ self.W.t()) * self.g[:, 0]
        return r, r


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("make", [Viewing, lambda: nd.Recurrent(nd.LIF(3), nn.Linear(3, 3))])
def test_a_copy_keeps_its_values_when_the_original_is_edited(make, learned):
    torch.manual_seed(0)
    net, xs = make().requires_grad_(learned), 3 * torch.randn(9, 2, 3)
    nd.unroll(net, xs)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(0.9)
    nd.unroll(net, xs)
    kept = copy.deepcopy(net)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(-2)
    for _ in range(2):
        found, wanted = nd.unroll(kept, xs), nd.unroll(kept, xs, compile=False)
        assert torch.allclose(found, wanted, rtol=1e-12)
        if learned:
            weight = torch.linspace(-1, 1, found.numel()).view_as(found)
            grads = [torch.autograd.grad((ys * weight).sum(), list(kept.parameters())) for ys in (found, wanted)]
            assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(*grads, strict=True))


def test_a_shallow_copy_has_programs_of_its_own() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lif, self.gain = nd.LIF(4), 1.0

        def forward(self, x: Tensor) -> Tensor:
            return self.gain * self.lif(x)

    net, xs = Net(), 3 * torch.rand(5, 2, 4)
    once = nd.unroll(net, xs)
    for other in (copy.copy(net), net._replicate_for_data_parallel()):
        other.gain = 3.0
        assert torch.equal(nd.unroll(other, xs), 3 * once)
    assert torch.equal(nd.unroll(net, xs), once)


def test_a_closure_without_a_value_yet() -> None:
    def made() -> Any:
        def scaled(x: Tensor) -> Tensor:
            return x if late is None else x * late

        net = Calling(scaled)
        yield net
        late = 2.0
        yield net

    class Calling(nn.Module):
        def __init__(self, scaled: Any) -> None:
            super().__init__()
            self.lif, self.scaled = nd.LIF(4), scaled

        def forward(self, x: Tensor) -> Tensor:
            return self.lif(x)

    xs = 3 * torch.rand(5, 2, 4)
    for net in made():
        torch.testing.assert_close(nd.unroll(net, xs), nd.unroll(net, xs, compile=False))


@pytest.mark.parametrize("make", [lambda: nd.LIF(3), lambda: Leak(3)])
def test_a_dict_of_buffers_that_is_replaced(make: Callable[[], nn.Module]) -> None:
    net = make()
    nd.unroll(net, XS)
    vars(net)["_buffers"] = dict(net._buffers)
    found = nd.unroll(net, XS, return_states=True)
    kept = nd.get_states(net)
    wanted = nd.unroll(net, XS, return_states=True, compile=False)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(kept, wanted[1])


def test_detecting_anomalies_runs_step_by_step(unsaid: None) -> None:
    net = nd.LIF(3, learn="tau")
    nd.unroll(net, XS)
    with torch.autograd.set_detect_anomaly(True), pytest.warns(nd.EagerWarning, match="set_detect_anomaly"):
        nd.unroll(net, XS)


def test_a_copy_of_a_network_makes_no_new_program(compilations: list[int]) -> None:
    """Python writes a cache to each class of which an object is copied for the first time."""

    class Spike(nd.surrogate.Arctan):
        pass

    net = nn.Sequential(nn.Linear(3, 3), nd.LIF(3, surrogate=Spike()))
    nd.unroll(net, XS)
    known = len(compilations)
    assert "__slotnames__" not in vars(Spike)
    twin = copy.deepcopy(net)
    assert "__slotnames__" in vars(Spike)
    nd.unroll(net, XS)
    nd.unroll(twin, XS)
    assert 0 < known == len(compilations)
