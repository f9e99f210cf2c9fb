"""Delays: what comes back when, memory, gradients, errors."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import traces
from torch import Tensor

import neurodyn as nd
from neurodyn import units as u

DT = 0.1 * u.ms
DCLS = Path(__file__).parent / "reference" / "dcls.npz"


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


@pytest.mark.parametrize("interpolation", ["linear", "gaussian"])
def test_a_learned_delay_stays_within_its_bounds(interpolation: str) -> None:
    width = {"sigma": 0.05 * u.ms} if interpolation == "gaussian" else {}
    delay = nd.Delay(2, 2 * u.ms, interpolation=interpolation, learn="delay", max_delay=4 * u.ms, **width)
    x = torch.rand(10, 2)
    for value, k in ((-30.0, 1), (30.0, 4)):
        with torch.no_grad():
            delay.raw_delay.fill_(value)
        assert (nd.unroll(delay, x, compile=False).detach() - shifted(x, k)).abs().max() < 1e-12
        assert (delay.delay.detach() - k).abs().max() < 1e-12
    assert delay.length == 4


@pytest.mark.parametrize("pushed", [0.5, 60.0])
def test_a_learned_delay_comes_back_from_its_bound(pushed: float) -> None:
    """It is pushed out for 300 steps, and then wanted inside."""
    delay = nd.Delay(1, 20 * u.ms, interpolation="linear", learn="delay", max_delay=40 * u.ms)
    optimizer = torch.optim.Adam(delay.parameters(), 0.05)

    def train(target: float, steps: int) -> float:
        for _ in range(steps):
            optimizer.zero_grad()
            (delay.delay - target).square().backward()
            optimizer.step()
        return delay.delay.item()

    bound = train(pushed, 300)
    assert abs(bound - min(max(pushed, 1), 40)) < 2
    assert abs(train(20.0, 400) - 20) < 0.5


def test_a_start_at_a_bound_is_moved_inside() -> None:
    for start, inside in ((1.0, 1 + 9e-4), (10.0, 10 - 9e-4)):
        delay = nd.Delay(1, start * u.ms, interpolation="linear", learn="delay", max_delay=10 * u.ms)
        assert abs(delay.delay.item() - inside) < 1e-9
        delay.delay.sum().backward()
        assert delay.raw_delay.grad > 0


def test_a_parameter_of_the_users_own_has_a_gradient_beyond_its_bound() -> None:
    delay = nd.Delay(
        1, u.quantity(torch.nn.Parameter(torch.tensor(3.0)), "ms"), interpolation="linear", max_delay=4 * u.ms
    )
    own = delay.delay
    with torch.no_grad():
        own.fill_(30.0)
    x = torch.linspace(0, 1, 10).square().unsqueeze(1)
    y = nd.unroll(delay, x, compile=False)
    assert torch.equal(y.detach(), shifted(x, 4))
    y.sum().backward()
    assert own.grad < 0


def test_narrowing() -> None:
    delay = nd.Delay(2, 5 * u.ms, interpolation="gaussian", learn="delay", max_delay=16 * u.ms)
    assert delay.sigma == 8
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), delay)
    for _ in range(10):
        nd.narrow_delays(net, (0.5 / 8) ** 0.1)
    assert abs(delay.sigma - 0.5) < 1e-12
    saved = copy.deepcopy(net.state_dict())
    nd.narrow_delays(net, 0.1)
    assert delay.sigma == 0.25
    nd.narrow_delays(net, 0.1, least=0.4 * u.ms)
    assert delay.sigma == 0.25  # it never becomes wider
    net.load_state_dict(saved)
    assert abs(delay.sigma - 0.5) < 1e-12
    delay.sigma = 3e-3 * u.s
    assert delay.sigma == 3
    for value, error, words in (
        (-1 * u.ms, ValueError, "sigma must be positive"),
        (3.0, TypeError, "sigma needs a unit"),
        (3 * u.mV, Exception, "sigma, got 3 millivolt"),
    ):
        with pytest.raises(error, match=words):
            delay.sigma = value
    with pytest.raises(ValueError, match="no delays with interpolation='gaussian'"):
        nd.narrow_delays(nd.Delay(1, 2 * u.ms), 0.5)
    with pytest.raises(ValueError, match="at most 1, got 2"):
        nd.narrow_delays(net, 2)


def sharp(delay: nd.Delay, x: Tensor) -> Tensor:
    """The output of a Gaussian delay, neuron by neuron, in numpy's words."""
    steps, sigma = delay.delay.detach().expand(x.shape[-1]) / delay.dt, delay.sigma / delay.dt
    y = torch.zeros_like(x)
    for i, k in enumerate(steps.tolist()):
        weight = torch.tensor([math.exp(-((j - k) ** 2) / (2 * float(sigma) ** 2)) for j in range(1, delay.length + 1)])
        for j, w in enumerate((weight / weight.sum()).tolist(), 1):
            y[..., i] += w * shifted(x, j)[..., i]
    return y


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("longest", [12, 50])
def test_gaussian_kernels(longest: float, compile: bool) -> None:
    """One for all and one for each, few steps and many, against a sum."""
    for start in (torch.tensor(4.3), torch.tensor([2.2, 7.0, 11.9])):
        delay = nd.Delay(3, start * u.ms, interpolation="gaussian", learn="delay", max_delay=longest * u.ms)
        x = torch.rand(60, 2, 3)
        assert (nd.unroll(delay, x, compile=compile).detach() - sharp(delay, x)).abs().max() < 1e-12
        delay.sigma = 1.3 * u.ms
        assert (nd.unroll(delay, x, compile=compile).detach() - sharp(delay, x)).abs().max() < 1e-12
        delay.reset_state(2)
        before = torch.stack([(delay.read(), delay(row))[0] for row in x])
        assert (before.detach() - sharp(delay, x)).abs().max() < 1e-12


def test_gradient_of_a_gaussian_delay() -> None:
    delay = nd.Delay(3, torch.tensor([1.4, 2.0, 4.6]) * u.ms, interpolation="gaussian", learn="delay", sigma=1.1 * u.ms)
    x, weight = torch.rand(12, 2, 3, requires_grad=True), torch.rand(12, 2, 3)

    def loss(raw: Tensor, x: Tensor) -> Tensor:
        delay.reset_state(2)
        return torch.func.functional_call(Loop(delay), {"net.raw_delay": raw}, (x,)).mul(weight).sum()

    assert torch.autograd.gradcheck(loss, (delay.raw_delay.detach().requires_grad_(), x))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_dcls(k: int) -> None:
    """Outputs and gradients of dcls 0.1.1, see reference/make_dcls.py."""
    data = {name: torch.as_tensor(value) for name, value in np.load(DCLS).items()}
    start, L = data["delay"], int(data["length"])
    options = {"interpolation": "gaussian", "max_delay": L * u.ms, "sigma": float(data[f"sigma{k}"]) * u.ms}
    x = data["x"].movedim(-1, 0)
    each = nd.Delay(3, start[0, :, 0] * u.ms, learn="delay", **options)
    outs, inputs, count = start.shape
    order = torch.arange(start.numel()).view(outs, inputs, count)
    post, pre = (order // (inputs * count)).flatten(), ((order // count) % inputs).flatten()
    weight = data[f"weight{k}"].flatten()
    synapses = nd.Sparse(
        (pre, post), (inputs, outs), weight=weight, delay=start.flatten() * u.ms, learn="delay", **options
    )
    by_pre = torch.argsort(pre, stable=True)
    for layer, name, raw, found in (
        (each, "neurons", each.raw_delay, lambda g: g),
        (synapses, "synapses", synapses.delays.raw_delay, lambda g: torch.empty_like(g).index_copy(0, by_pre, g)),
    ):
        y = nd.unroll(layer, x, compile=False)
        assert (y.detach() - data[f"{name}{k}"].movedim(-1, 0)).abs().max() < 1e-6
        (grad,) = torch.autograd.grad(y.square().sum(), raw)
        place = raw.detach().sigmoid()
        slope, wanted = found(grad / ((L - 1) * place * (1 - place))), data[f"{name}_slope{k}"].flatten()
        assert (slope - wanted).abs().max() < 1e-6 * wanted.abs().max()


@pytest.mark.kernels
@pytest.mark.parametrize("kind", ["neuron", pytest.param("synapse", marks=pytest.mark.long)])
def test_a_delay_learns_from_20_ms_away(kind: str) -> None:
    """One start of ten, see benchmarks/delays.py."""
    from benchmarks.delays import train

    loss, below = train(kind, "gaussian", 1, compile=True)
    assert loss < 1e-3
    assert 0 < below < 400


@pytest.mark.parametrize("k", [33, 100, 1000])
@pytest.mark.parametrize("compile", [False, True])
def test_long_delays_have_few_states(k: int, compile: bool) -> None:
    delay = nd.Delay((2, 3), k * 0.1 * u.ms, past_initializer=-1.0, dt=DT)
    x = torch.rand(k + 50, 2, 2, 3, requires_grad=True)
    y = nd.unroll(delay, x * 1, compile=compile)
    assert torch.equal(y[k:].detach(), x[:-k].detach())
    assert bool((y[:k] == -1).all())
    weight = torch.rand_like(y)
    (grad,) = torch.autograd.grad((y * weight).sum(), x)
    assert torch.equal(grad[:-k], weight[k:])
    assert not bool(grad[-k:].any())
    states = nd.get_states(delay)
    assert len(states) <= 16
    assert delay.batch == (2,)
    assert sum(value.numel() for value in states.values()) < 12 * (k + 16)
    nd.set_states(delay, states)
    assert torch.equal(delay.read(), x[-k].detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_long_delays_of_each_neuron(dtype: torch.dtype) -> None:
    steps = torch.tensor([1, 16, 17, 40, 100])
    x = torch.rand(160, 5, dtype=dtype)
    wanted = torch.stack([shifted(x[:, i], int(k)) for i, k in enumerate(steps)], -1)
    delay = nd.Delay(5, steps * 1.0 * u.ms).to(dtype)
    assert torch.equal(nd.unroll(delay, x, compile=False), wanted)


def test_a_long_memory_grows_and_shrinks() -> None:
    delay, x = nd.Delay(1, 200 * u.ms), torch.arange(1.0, 500).unsqueeze(1)
    for row in x[:300]:
        delay(row)
    for ms, first in ((70, 231.0), (90, 0.0), (64, 237.0), (20, 281.0), (40, 0.0)):
        delay.delay = ms * u.ms
        assert delay.read().item() == first or (first == 0 and delay.read().item() in (0.0, 300 - ms + 1))


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
        (lambda: nd.Delay(3, 2 * u.ms, interpolation="cubic"), ValueError, "'none', 'linear' or 'gaussian'"),
        (lambda: nd.Delay(3, 2 * u.ms, learn="delay"), ValueError, "interpolation='linear'"),
        (lambda: nd.Delay(3, 2 * u.ms, max_delay=3 * u.ms), ValueError, "learn='delay'"),
        (lambda: nd.Delay(3, 2 * u.ms, interpolation="gaussian"), ValueError, "is for learned delays"),
        (lambda: nd.Delay(3, 2 * u.ms, sigma=3 * u.ms), ValueError, "sigma is the width of interpolation='gaussian'"),
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
    at_bound = target.learned and not source.learned and bool((source.delay == 1).any())  # which moves it inside
    near = 1.2e-3 if at_bound else 1e-12
    assert (nd.unroll(target, pulse(3), compile=False) - wanted).abs().max() < 3 * near
    assert (target.delay - source.delay).abs().max() < near
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
    found = torch.stack([learned(x) for x in pulse(3, 40)]).detach()
    assert (found - shifted(pulse(3, 40), 30)).abs().max() < 1e-11


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
    assert delay.length == 2
    assert delay.delay == 2
    delay._buffers["delay"] = torch.ones(4)
    with pytest.raises(ValueError, match=r"Delay\(3\): delay has shape \(4,\)"):
        delay(torch.ones(3))
    delay.delay = torch.ones(3)
    assert delay.length == 1


def test_setting_a_learned_delay() -> None:
    delay = kinds()[6]
    raw = delay.raw_delay
    delay.delay = torch.tensor([2.0, 7.5, 4.0])
    assert delay.raw_delay is raw
    assert (delay.delay - torch.tensor([2.0, 7.5, 4.0])).abs().max() < 1e-12
    with pytest.raises(ValueError, match=r"Delay\(3\): delay must be between dt and max_delay, got 20 ms"):
        delay.delay = 20 * u.ms


@pytest.mark.parametrize("bound", [False, True])
def test_files_of_earlier_versions_hold_the_logarithm(bound: bool) -> None:
    saved, loaded = kinds()[6], kinds()[5]
    state = {"past_initializer": saved.past_initializer, "raw_delay": saved.delay.detach().log()}
    if bound:
        state["max_delay"] = torch.tensor(9.0)
    loaded.load_state_dict(state)
    assert (loaded.delay - saved.delay).abs().max() < 1e-12
    assert (nd.unroll(loaded, pulse(3), compile=False) - nd.unroll(saved, pulse(3), compile=False)).abs().max() < 1e-12


def test_a_file_with_another_dt() -> None:
    saved = nd.Delay(2, 3 * u.ms, interpolation="linear", learn="delay", dt=0.5 * u.ms)
    loaded = nd.Delay(2, 2 * u.ms, interpolation="linear", learn="delay", dt=DT)
    loaded.load_state_dict(saved.state_dict())
    assert abs(loaded.delay.item() - 3) < 1e-12
    assert abs(loaded.min_delay - 0.1) < 1e-12
