"""Delays: what comes back when, memory, gradients, errors."""

from __future__ import annotations

import copy

import pytest
import torch
from reference import traces
from torch import Tensor

import neurodyn as nd
from neurodyn import units as u

DT = 0.1 * u.ms


def shifted(x: Tensor, k: int) -> Tensor:
    """x[i - k], 0 before the start."""
    return torch.cat((torch.zeros_like(x[:k]), x[: len(x) - k]))


@pytest.mark.parametrize("k", [0, 1, 7])
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_k_steps_late(k: int, batch: tuple[int, ...]) -> None:
    delay = nd.Delay((3, 2), k * 0.1 * u.ms, dt=DT)
    x = torch.rand(20, *batch, 3, 2)
    assert torch.equal(nd.unroll(delay, x, compile=False), shifted(x, k))


def test_one_delay_for_each_neuron() -> None:
    steps = torch.tensor([0, 3, 1, 6])
    delay = nd.Delay(4, steps * 0.1 * u.ms, dt=DT)
    x = torch.rand(20, 2, 4)
    wanted = torch.stack([shifted(x[..., i], int(k)) for i, k in enumerate(steps)], -1)
    assert torch.equal(nd.unroll(delay, x, compile=False), wanted)
    assert delay.length == 6


def test_multiples_of_dt_survive_rounding() -> None:
    for dtype in (torch.float32, torch.float64):
        for k in (3, 6, 7, 12, 999):
            assert nd.Delay(1, (k * 0.1) * u.ms, dt=DT, dtype=dtype).fixed == k


def test_traces_of_steps() -> None:
    trace = traces.load("delay_steps")
    for column, k in enumerate(trace["p_steps"].long().tolist()):
        delay = nd.Delay(3, k * 0.1 * u.ms, dt=DT)
        delay.reset_state()
        wanted = trace["out_rotation_after_write"][:, column]
        for i, x in enumerate(trace["in_x"]):
            if k:  # read before the write gives what the write gives
                assert torch.equal(delay.read(), wanted[i])
            assert torch.equal(delay(x), wanted[i])


@pytest.mark.parametrize("kind", ["", "_exact"])
def test_traces_of_interpolation(kind: str) -> None:
    trace = traces.load("delay_time_interp")
    x, lags = trace["in_x"], trace[f"p_lags{kind}"]
    wanted = trace[f"out_linear_interp{kind}"]
    for column, lag in enumerate(lags.tolist()):
        delay = nd.Delay(3, lag * u.ms, interpolation="linear", dt=trace.dt)
        assert (nd.unroll(delay, x, compile=False) - wanted[:, column]).abs().max() < 1e-12
    each = nd.Delay((len(lags), 3), lags.unsqueeze(1) * u.ms, interpolation="linear", dt=trace.dt)
    repeated = x.unsqueeze(1).expand(-1, len(lags), 3)
    assert (nd.unroll(each, repeated, compile=False) - wanted).abs().max() < 1e-12


def test_trace_of_a_delayed_potential() -> None:
    trace = traces.load("delay_prefetch")
    values = {"tau": trace.params["tau"], "V_initializer": u.quantity(trace["init_V"], "mV")}
    lif = nd.LIF(4, **values, dt=trace.dt, **traces.BRAINSTATE)
    delay = nd.Delay(4, trace.params["delay"], dt=trace.dt)
    nd.reset_states(torch.nn.ModuleList([lif, delay]))
    for i, x in enumerate(trace["in_x"]):
        before = delay.read()
        V = trace["st_V"][i]  # the potential before the reset, which the delay of the trace stores
        lif(x)
        assert torch.equal(delay(V), before)
        assert (before - trace["out_V_delayed_before"][i]).abs().max() < 1e-9


def test_the_past_may_have_a_value() -> None:
    delay = nd.Delay(2, 2 * u.ms, past_initializer=torch.tensor([1.0, -60.0]))
    x = torch.zeros(3, 2)
    assert nd.unroll(delay, x, compile=False).tolist() == [[1.0, -60.0], [1.0, -60.0], [0.0, 0.0]]


@pytest.mark.parametrize("size", [1, 4])
def test_gradient_of_a_learned_delay(size: int) -> None:
    start = torch.tensor(1.27) if size == 1 else torch.linspace(1.2, 4.6, size)
    delay = nd.Delay(size, start * u.ms, interpolation="linear", learn="delay")
    x = torch.rand(12, 3, size, requires_grad=True)
    weight = torch.rand(12, 3, size)

    def loss(raw: Tensor, x: Tensor) -> Tensor:
        delay.reset_state(3)
        return torch.func.functional_call(Loop(delay), {"net.raw_delay": raw}, (x,)).mul(weight).sum()

    assert torch.autograd.gradcheck(loss, (delay.raw_delay.detach().requires_grad_(), x))


class Loop(torch.nn.Module):
    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(row) for row in x])


def test_a_learned_delay_stays_within_its_bounds() -> None:
    delay = nd.Delay(2, 2 * u.ms, interpolation="linear", learn="delay", max_delay=4 * u.ms)
    x = torch.rand(10, 2)
    for value, k in ((-30.0, 1), (30.0, 4)):
        with torch.no_grad():
            delay.raw_delay.fill_(value)
        assert torch.equal(nd.unroll(delay, x, compile=False).detach(), shifted(x, k))
    assert delay.length == 4


def test_compiled_is_the_same() -> None:
    steps = torch.tensor([0.5, 3.0, 1.25])
    net = torch.nn.Sequential(
        nd.Delay(3, 2 * u.ms), nd.Delay(3, steps * u.ms, interpolation="linear", learn=()), nd.Expon(3)
    )
    learned = nd.Delay(3, (steps + 1) * u.ms, interpolation="linear", learn="delay")
    results = []
    for compile in (True, False):
        x = torch.linspace(0, 1, 19 * 2 * 3).view(19, 2, 3).sin().requires_grad_()
        y = nd.unroll(torch.nn.Sequential(net, learned), x, compile=compile)
        grads = torch.autograd.grad((y**2).sum(), (x, learned.raw_delay))
        results.append((y, *grads))
    for found, wanted in zip(*results, strict=True):
        assert (found - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("how", ["call", "stream", "eager", "compiled"])
def test_an_input_may_be_written_to_afterwards(how: str) -> None:
    delay, x = nd.Delay(3, 2 * u.ms), torch.empty(3)
    stream, found = nd.Stream(delay, x), []
    states: dict[str, torch.Tensor] | None = None
    for value in range(6):
        x.fill_(value)
        if how in ("call", "stream"):
            y = delay(x) if how == "call" else stream(x)
        else:
            y, states = nd.unroll(delay, x[None], states=states, return_states=True, compile=how == "compiled")
        found.append(y.flatten()[0].item())
    assert found == [0, 0, 0, 1, 2, 3]


def test_memory_is_one_input_for_each_step_of_the_longest_delay() -> None:
    delay = nd.Delay(7, torch.linspace(1, 5, 7).round() * u.ms)
    delay.reset_state(2)
    assert len(nd.get_states(delay)) == 5
    assert sum(state.numel() for state in nd.get_states(delay).values()) == 5 * 2 * 7


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: nd.Delay(3, -1 * u.ms), ValueError, "delay must be zero or positive, got -1 ms"),
        (lambda: nd.Delay(3, 1.5 * u.ms), ValueError, "delay 1.5 ms is no multiple of dt=1 ms"),
        (lambda: nd.Delay(3, 1.5), TypeError, "delay needs a unit"),
        (lambda: nd.Delay(3, 2 * u.mV), Exception, "delay"),
        (lambda: nd.Delay(3, torch.ones(4) * u.ms), ValueError, "does not broadcast"),
        (lambda: nd.Delay(3, 2 * u.ms, interpolation="cubic"), ValueError, "'none' or 'linear'"),
        (lambda: nd.Delay(3, 2 * u.ms, learn="delay"), ValueError, "interpolation='linear'"),
        (lambda: nd.Delay(3, 2 * u.ms, max_delay=3 * u.ms), ValueError, "learn='delay'"),
        (
            lambda: nd.Delay(3, 5 * u.ms, interpolation="linear", learn="delay", max_delay=3 * u.ms),
            ValueError,
            "max_delay=3 ms",
        ),
        (lambda: nd.Delay(3, 0 * u.ms).read(), ValueError, "read.. needs delays of at least dt=1 ms"),
        (lambda: nd.Delay(3, 2 * u.ms).read(), nd.UnsetState, "reset_state"),
    ],
)
def test_errors(build, error, words) -> None:
    with pytest.raises(error, match=words):
        build()


def pulse(n: int, T: int = 16) -> Tensor:
    x = torch.zeros(T, n)
    x[0] = torch.arange(1.0, n + 1)
    return x


def kinds(n: int = 3) -> list[nd.Delay]:
    each = torch.tensor([1.0, 6.0, 3.0])
    return [
        nd.Delay(n, 2 * u.ms),
        nd.Delay(n, 7 * u.ms),
        nd.Delay(n, each * u.ms),
        nd.Delay(n, 2.5 * u.ms, interpolation="linear"),
        nd.Delay(n, (each + 0.25) * u.ms, interpolation="linear"),
        nd.Delay(n, 1.5 * u.ms, interpolation="linear", learn="delay"),
        nd.Delay(n, (each + 0.5) * u.ms, interpolation="linear", learn="delay", max_delay=9 * u.ms),
    ]


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("saved", range(7))
@pytest.mark.parametrize("loaded", range(7))
def test_what_is_loaded_is_used(saved: int, loaded: int, assign: bool) -> None:
    """Whatever the delay was built with: length, one for all or for each, learned or not, another max_delay."""
    source, target = kinds()[saved], kinds()[loaded]
    target(pulse(3)[0])
    if not source.whole and target.interpolation == "none":
        with pytest.raises(RuntimeError, match=r"Delay\(3\): delay .* no multiple of dt"):
            target.load_state_dict(source.state_dict(), assign=assign)
        return
    target.load_state_dict(source.state_dict(), assign=assign)
    wanted = nd.unroll(source, pulse(3), compile=False)
    assert (nd.unroll(target, pulse(3), compile=False) - wanted).abs().max() < 1e-12
    assert (target.delay - source.delay).abs().max() < 1e-12
    if source.learned and target.learned:
        assert target.length == source.length


@pytest.mark.parametrize("compile", [False, True])
def test_after_loading_compiled_too(compile: bool) -> None:
    source, target = kinds()[2], kinds()[0]
    nd.unroll(target, pulse(3), compile=compile)
    target.load_state_dict(source.state_dict())
    assert torch.equal(nd.unroll(target, pulse(3), compile=compile), nd.unroll(source, pulse(3), compile=False))


def test_assigned_and_edited_delays_are_used() -> None:
    for change in (
        lambda d: setattr(d, "delay", torch.tensor([1.0, 6.0, 3.0])),
        lambda d: d.delay.copy_(torch.tensor([1.0, 6.0, 3.0])),
        lambda d: d.delay.data.copy_(torch.tensor([1.0, 6.0, 3.0])),
        lambda d: setattr(d.delay, "data", torch.tensor([1.0, 6.0, 3.0])),
    ):
        delay = nd.Delay(3, torch.tensor([2.0, 2.0, 4.0]) * u.ms)
        delay.reset_state()
        change(delay)
        found = torch.stack([delay(x) for x in pulse(3)])
        assert torch.equal(found, nd.unroll(kinds()[2], pulse(3), compile=False))
    learned = kinds()[5]
    learned.max_delay.fill_(30.0)
    with torch.no_grad():
        learned.raw_delay.fill_(30.0)
    assert torch.equal(torch.stack([learned(x) for x in pulse(3, 40)]).detach(), shifted(pulse(3, 40), 30))


def test_the_memory_grows_and_keeps_what_it_holds() -> None:
    delay = nd.Delay(1, 2 * u.ms, past_initializer=-1.0)
    x = torch.arange(1.0, 13.0).unsqueeze(1)
    found = [delay(row) for row in x[:4]]
    delay.load_state_dict(nd.Delay(1, 5 * u.ms, past_initializer=-1.0).state_dict())
    found += [delay(row) for row in x[4:8]]
    delay.load_state_dict(nd.Delay(1, 1 * u.ms, past_initializer=-1.0).state_dict())
    found += [delay(row) for row in x[8:]]
    assert [y.item() for y in found] == [-1, -1, 1, 2, -1, -1, -1, 3, 8, 9, 10, 11]
    assert len(nd.get_states(delay)) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_and_networks_of_low_precision(dtype: torch.dtype) -> None:
    wanted = nd.unroll(nd.Delay(2, torch.tensor([5.3, 0.7]) * u.ms, dt=DT), pulse(2, 70), compile=False)
    saved, loaded = nd.Delay(2, torch.tensor([5.3, 0.7]) * u.ms, dt=DT), nd.Delay(2, 1 * u.ms, dt=DT)
    loaded.load_state_dict({name: value.to(dtype) for name, value in saved.state_dict().items()})
    assert torch.equal(nd.unroll(loaded, pulse(2, 70), compile=False), wanted)
    assert (loaded.delay - saved.delay).abs().max() < 1e-12
    low = copy.deepcopy(saved.to(dtype))
    assert torch.equal(nd.unroll(low, pulse(2, 70).to(dtype), compile=False).double(), wanted)
    long = nd.Delay(2, torch.tensor([3001.0, 1.0]) * u.ms).to(dtype)  # which this dtype cannot hold
    assert int(long._before.max()) == 3001


def test_an_assigned_delay_of_another_shape() -> None:
    delay = nd.Delay(3, 2 * u.ms)
    with pytest.raises(ValueError, match=r"Delay\(3\): delay has shape \(4,\)"):
        delay.delay = torch.ones(4)
    with pytest.raises(ValueError, match=r"Delay\(3\): delay has shape \(4,\)"):
        delay(torch.ones(3))
    delay.delay = torch.ones(3)
    assert delay.length == 1


def test_a_file_of_the_first_version_has_no_max_delay() -> None:
    saved, loaded = kinds()[6], kinds()[5]
    state = saved.state_dict()
    del state["max_delay"]
    loaded.load_state_dict(state)
    assert (nd.unroll(loaded, pulse(3), compile=False) - nd.unroll(saved, pulse(3), compile=False)).abs().max() < 1e-12
