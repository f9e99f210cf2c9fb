"""simulate: the same numbers as a loop, records, inputs, resuming, memory, errors."""

from __future__ import annotations

import gc
import math
import random
import threading

import numpy as np
import pint
import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

simulate = nd.simulate


class Net(nn.Module):
    """A driven recurrent population with noise at its input."""

    def __init__(self, n: int = 20):
        super().__init__()
        random = torch.Generator().manual_seed(1)
        self.N = nd.LIFRef(
            n, tau=10 * u.ms, tau_ref=3 * u.ms, V_initializer=nd.init.Uniform(0 * u.mV, 1 * u.mV, random)
        )
        self.delay = nd.Delay(n, 2 * u.ms)
        self.back = nd.Projection(
            nd.FixedProb(n, n, 0.2, weight=nd.init.Normal(0.0 * u.nS, 0.5 * u.nS, random), generator=random),
            synapse=nd.Expon(n),
            output=nd.CUBA(),
        )

    def forward(self, x: Tensor | None = None) -> Tensor:
        I = self.back(self.delay.read())
        spikes = self.N(I + (1.3 if x is None else x))
        self.delay(spikes)
        return spikes


def noise(first: int, steps: int, generator: torch.Generator) -> Tensor:
    return 1 + torch.rand(steps, 20, generator=generator, dtype=torch.float64)


def loop(net: nn.Module, rows: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    nd.reset_states(net)
    spikes, V = [], []
    with torch.no_grad():
        for row in rows:
            spikes.append(net(*row))
            V.append(net.N.V)
    return torch.stack(spikes), torch.stack(V)


@pytest.mark.parametrize("compile", [False, True])
def test_equals_the_step_loop(compile: bool) -> None:
    net = Net()
    spikes, V = loop(net, [()] * 47)
    recording = simulate(net, 47 * u.ms, record=("spikes", "N.V", "output"), compile=compile)
    assert torch.equal(recording["output"].values, spikes)
    assert (recording["N.V"].values - V).abs().max() < 1e-12
    assert recording["N.V"].unit == u.mV
    assert recording["N.V"].times.to("ms").magnitude[:3].tolist() == [0.0, 1.0, 2.0]
    events = recording["spikes"]
    assert torch.equal(torch.stack((events.steps, events.neurons)), spikes.nonzero().T)
    assert torch.equal(events.counts, spikes.sum(0).long())
    assert (events.rates.to("Hz").magnitude - spikes.mean(0) * 1000).abs().max() < 1e-9
    assert len(events) == spikes.sum()
    assert torch.equal(net.N.V, V[-1]) or (net.N.V - V[-1]).abs().max() < 1e-12


@pytest.mark.parametrize("index", [torch.tensor([7, 2]), [7, 2], slice(2, 8, 5), torch.arange(20) % 5 == 2])
def test_records_some_neurons(index) -> None:
    net = Net()
    spikes, V = loop(net, [()] * 20)
    recording = simulate(net, 20 * u.ms, record={"N.V": index, "spikes": None}, compile=isinstance(index, torch.Tensor))
    assert (recording["N.V"].values - V[:, index]).abs().max() < 1e-12
    assert len(recording["spikes"]) == spikes.sum()


def test_inputs() -> None:
    net, T = Net(), 30
    x = 1 + torch.rand(T, 20)
    wanted, _ = loop(net, [(row,) for row in x])
    options = {"record": "output", "compile": False}
    assert torch.equal(simulate(net, T * u.ms, x, **options)["output"].values, wanted)
    rows = lambda first, n, _: x[torch.arange(first, first + n) % T]  # noqa: E731
    assert torch.equal(simulate(net, T * u.ms, rows, **options)["output"].values, wanted)
    constant, _ = loop(net, [(x[3],)] * T)
    assert torch.equal(simulate(net, T * u.ms, x[3], **options)["output"].values, constant)
    assert torch.equal(simulate(net, T * u.ms, (x[3],), **options)["output"].values, constant)


def test_batch_subset_and_dict() -> None:
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            spikes = self.net(x)
            return {"N_spikes": spikes, "rate": spikes.mean(-1)}

    x = 1 + torch.rand(25, 2, 20)
    record = {"N_spikes": None, "rate": None, "net.N.V": [3, 5]}
    recording = simulate(Named(), 25 * u.ms, x, record, batch=(2,), compile=False)
    spikes = nd.unroll(Net(), x, compile=False)
    events = recording["N_spikes"]
    assert torch.equal(torch.stack((events.steps, *events.index)), spikes.nonzero().T)
    assert (recording["rate"].values - spikes.mean(-1)).abs().max() < 1e-15
    assert recording["net.N.V"].values.shape == (25, 2, 2)
    assert list(recording) == list(record)


@pytest.mark.parametrize("stop", [37, 1234])
def test_stopped_and_resumed(stop: int, tmp_path) -> None:
    T = 1500
    whole = simulate(Net(), T * u.ms, noise, ("spikes", "N.V"), seed=5)
    first = simulate(Net(), stop * u.ms, noise, ("spikes", "N.V"), seed=5)
    torch.save({"states": first.states, "step": first.step}, tmp_path / "stop.pt")
    saved = torch.load(tmp_path / "stop.pt", weights_only=True)
    rest = simulate(
        Net(), (T - stop) * u.ms, noise, ("spikes", "N.V"), seed=5, states=saved["states"], start=saved["step"]
    )
    assert rest.step == T
    assert len(whole["spikes"]) > 1000
    for part in ("steps", "neurons"):
        parts = [getattr(recording["spikes"], part) for recording in (first, rest)]
        assert torch.equal(torch.cat(parts), getattr(whole["spikes"], part))
    assert torch.equal(torch.cat((first["N.V"].values, rest["N.V"].values)), whole["N.V"].values)
    other = simulate(Net(), T * u.ms, noise, ("spikes",), seed=6)
    assert other["spikes"].steps.tolist() != whole["spikes"].steps.tolist()


def test_the_random_input_does_not_depend_on_what_is_recorded(monkeypatch) -> None:
    monkeypatch.setattr("neurodyn.run.input_rows._BLOCK_BYTES", 4000)  # 25 rows of input, fewer of records
    few, many = (
        simulate(Net(), 120 * u.ms, noise, record, seed=5, compile=False)["spikes"]
        for record in (("spikes",), ("spikes", "N.V", "output"))
    )
    assert len(few) > 100
    assert torch.equal(few.steps, many.steps)
    assert torch.equal(few.neurons, many.neurons)


def test_states_are_ready_for_training_afterwards() -> None:
    net = Net()
    simulate(net, 40 * u.ms, compile=False)
    x = torch.ones(20, requires_grad=True)
    net(x).sum().backward()
    assert x.grad is not None


def test_memory_is_flat() -> None:
    def resident() -> int:
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    net = Net()
    recording = simulate(net, 20 * u.s, noise)
    before = resident()
    for _ in range(3):
        recording = simulate(net, 20 * u.s, noise, states=recording.states, start=recording.step)
    assert resident() - before < 5e6
    assert recording.step == 80_000
    assert all(state.isfinite().all() for state in recording.states.values())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: simulate(Net(), 1.5 * u.ms), ValueError, "positive multiple of dt=1 ms, got 1.5 ms"),
        (lambda: simulate(Net(), 0 * u.ms), ValueError, "positive multiple"),
        (lambda: simulate(Net(), 10), TypeError, "duration needs a unit"),
        (lambda: simulate(Net(), 10 * u.ms, record=("N.v",), compile=False), KeyError, "there are output, spikes, N.V"),
        (lambda: simulate(Net(), 10 * u.ms, torch.ones(9, 20), compile=False), ValueError, "constant"),
        (lambda: simulate(Net(), 10 * u.ms, lambda *_: torch.ones(3, 20), compile=False), ValueError, "wanted 1"),
        (lambda: simulate(nn.Linear(2, 2), 10 * u.ms), ValueError, "no neurodyn layer"),
    ],
)
def test_errors(call, error, words) -> None:
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value) + " ".join(getattr(raised.value, "__notes__", ()))


def test_a_dense_connection_without_a_batch_is_compiled() -> None:
    net, x = nn.Sequential(nn.Linear(3, 4), nd.LIF(4)), 9 * torch.rand(25, 3)
    found = simulate(net, 25 * u.ms, x, ["output", "1.V"])  # an EagerWarning would be an error
    wanted = simulate(net, 25 * u.ms, x, ["output", "1.V"], compile=False)
    assert wanted["output"].values.sum() > 0
    assert torch.equal(found["output"].values, wanted["output"].values)
    assert (found["1.V"].values - wanted["1.V"].values).abs().max() < 1e-12


def test_what_cannot_be_compiled_says_why() -> None:
    class Noisy(Net):
        def forward(self) -> Tensor:
            return super().forward(1 + torch.rand(20))

    with pytest.warns(nd.EagerWarning, match="random numbers"):
        simulate(Noisy(), 10 * u.ms)


def test_without_a_working_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurodyn.engine import compiled_chunk

    def fail(*_: object) -> None:
        raise RuntimeError("InvalidCxxCompiler")

    monkeypatch.setattr(compiled_chunk, "compiled", fail)
    net, xs = nn.Sequential(nd.Expon(7), nd.LIF(7)), 2 * torch.rand(45, 7)
    with pytest.warns(nd.EagerWarning, match="no working C"):
        found = simulate(net, 45 * u.ms, xs, ["output"])
    assert torch.equal(found["output"].values, simulate(net, 45 * u.ms, xs, ["output"], compile=False)["output"].values)


def both(net: nn.Module, T: int, **options):
    """What simulate makes of `x`, beside the loop over one reading of it."""

    def check(x, rows) -> None:
        found = simulate(net, T * u.ms, x, {"output": None}, compile=False, **options)["output"].values
        nd.reset_states(net, *options.get("batch", ()))
        with torch.no_grad():
            assert torch.equal(found, torch.stack([net(*row) if isinstance(row, tuple) else net(row) for row in rows]))

    return check


class Anything(nn.Module):
    """Takes an input of any shape, and counts its calls."""

    def __init__(self, n: int = 6):
        super().__init__()
        self.N, self.calls, self.seen = nd.LIF(n, R=9 * u.Gohm), 0, []
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: Tensor, y: Tensor | float = 0.0) -> Tensor:
        self.calls += 1
        self.seen.append(x + torch.zeros((), requires_grad=True))
        self.total.add_(torch.rand(()) + random.random() + float(np.random.rand()))  # noqa: NPY002
        return self.N(torch.zeros(self.N.size) + x + y)


FRONTS = {
    "LIF": lambda: (nd.LIF(6, R=3 * u.Gohm), (6,)),
    "LIF of two dimensions": lambda: (nd.LIF((6, 2), R=3 * u.Gohm), (6, 2)),
    "Identity": lambda: (nn.Sequential(nn.Identity(), nd.LIF(6, R=3 * u.Gohm)), (6,)),
    "Linear": lambda: (nn.Sequential(nn.Linear(6, 3), nd.LIF(3, R=9 * u.Gohm)), (6,)),
    "Recurrent": lambda: (nd.Recurrent(nd.LIF(6, R=3 * u.Gohm), nn.Linear(6, 6)), (6,)),
    "readout": lambda: (nd.LeakyRateReadout(6, 3), (6,)),
    "Projection": lambda: (nn.Sequential(nd.Projection(nn.Linear(6, 3), synapse=nd.Expon(3))), (6,)),
    "own forward": lambda: (Net(6), (6,)),
    "scaled": lambda: (nn.Sequential(nd.nir.Scale(torch.full((6,), 2.0)), nd.LIF(6, R=3 * u.Gohm)), (6,)),
}


@pytest.mark.parametrize("T", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("batch", [(), (6,), (2,), (6, 6)])
@pytest.mark.parametrize("front", FRONTS)
def test_a_constant_and_a_series_are_told_apart(front: str, batch: tuple, T: int) -> None:
    net, size = FRONTS[front]()
    check = both(net, T, batch=batch)
    x, xs = 3 * torch.rand(*batch, *size), 3 * torch.rand(T, *batch, *size)
    if front in ("scaled", "own forward") and (T, batch) == (6, ()):  # a row is one number, which is one for all
        with pytest.raises(ValueError, match="can be read as a constant"):
            check(x, None)
    else:
        check(x, T * [x])
    check(nd.constant(x), T * [x])
    for series in (xs, nd.series(xs)):
        check(series, xs)


def test_where_both_readings_work_the_caller_says_which() -> None:
    net = Anything()
    x = torch.rand(6)
    with pytest.raises(ValueError, match=r"the input of shape \(6,\) can be read as a constant.*a series.*nd\.series"):
        simulate(net, 6 * u.ms, x, compile=False)
    both(net, 6)(nd.constant(x), 6 * [x])
    both(net, 6)(nd.series(x), x)
    both(net, 7)(x, 7 * [x])  # no series
    both(net, 1)(x[:1], [x[:1]])  # of one step, which makes no difference


def test_several_inputs_are_told_apart_together() -> None:
    net = Anything()
    x, xs = torch.rand(6), torch.rand(6, 6)
    with pytest.raises(ValueError, match=r"input 2 of 2 of shape \(6,\)"):
        simulate(net, 6 * u.ms, (xs, x), compile=False)
    both(net, 6)((xs, nd.constant(x)), [(row, x) for row in xs])
    both(net, 6)((xs, nd.series(x)), list(zip(xs, x, strict=True)))
    both(net, 4)((x, 2.0), 4 * [(x, 2.0)])


def test_trying_leaves_nothing_behind() -> None:
    """Neither attributes, buffers and hooks of the network, nor random numbers."""
    calls: list = []

    def count(x: Tensor) -> tuple:
        net = Anything()
        net.seen.append(torch.ones(1))
        net.register_forward_hook(lambda *_: calls.append(1))
        calls.clear()
        torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
        simulate(net, 6 * u.ms, x, compile=False)
        return net.calls, len(calls), float(net.total), float(torch.rand(())), random.random(), float(np.random.rand())  # noqa: NPY002

    xs = torch.rand(6, 6)
    assert count(xs) == count(nd.series(xs))


def test_a_network_that_cannot_be_copied_is_not_guessed_about() -> None:
    net, xs = Anything(), torch.rand(6, 6)
    net.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"the network cannot be copied \(TypeError: .*nd\.constant"):
        simulate(net, 6 * u.ms, xs, compile=False)
    both(net, 6)(nd.series(xs), xs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_quantities_arrays_and_numbers(dtype: torch.dtype) -> None:
    net = nd.LIF(3, R=2 * u.Gohm, dtype=dtype)
    x, xs = torch.tensor([1.0, 2.0, 3.0], dtype=dtype), 3 * torch.rand(5, 3, dtype=dtype)
    check = both(net, 5)
    for given in (
        x.numpy(),
        x.double().numpy(),
        x * u.pA,
        np.array([1.0, 2.0, 3.0]) * 1e-3 * u.nA,
        nd.constant(x * u.pA),
    ):
        check(given, 5 * [x])
    for given in (xs.numpy(), xs * u.pA, u.quantity(xs.numpy(), "pA"), (xs.numpy(),), nd.series(xs.numpy())):
        check(given, xs)
    for given in (2.0, 2, np.float32(2), 2 * u.pA, 0.002 * u.nA, torch.tensor(2.0, dtype=dtype), nd.constant(2.0)):
        check(given, 5 * [torch.full((3,), 2.0, dtype=dtype)])
    check(lambda first, n, _: xs[torch.arange(first, first + n) % 5].double().numpy() * u.pA, xs)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("loud", TypeError, "an input is a str, wanted a tensor"),
        ([1.0, 2.0, 3.0], TypeError, "an input is a list"),
        (np.array(["a"]), TypeError, "an input is a ndarray"),
        (np.array([1j]), TypeError, "wanted a tensor, an array"),
        ((torch.ones(3), None), TypeError, "an input is a NoneType"),
        (lambda *_: "loud", TypeError, "an input is a str"),
        (lambda *_: 1.0, ValueError, r"gave \[0\] rows, wanted 1"),
        (
            torch.ones(9, 3),
            ValueError,
            r"\(9, 3\) is a series with 9 rows, wanted one for each of the 5 steps.*batch=\(9,\)",
        ),
        (nd.series(torch.ones(4, 3)), ValueError, "a series with 4 rows, wanted one for each of the 5 steps"),
        (nd.series(2.0), ValueError, "a series with no rows"),
        (nd.constant(torch.ones(5, 3)), ValueError, "the input has batch"),
        (torch.ones(5), ValueError, "the input has shape"),
        (torch.ones(5, 4), ValueError, "the input has shape"),
    ],
)
def test_inputs_that_are_none(given, error, words: str) -> None:
    with pytest.raises(error, match=words):
        simulate(nd.LIF(3), 5 * u.ms, given, compile=False)


def test_a_batch_of_one_dimension_may_be_a_number() -> None:
    x = torch.rand(5, 4, 3)
    found = [simulate(nd.LIF(3, R=3 * u.Gohm), 5 * u.ms, x, ["V"], batch=b, compile=False) for b in (4, (4,))]
    assert torch.equal(found[0]["V"].values, found[1]["V"].values)


def test_a_mark_is_made_once() -> None:
    with pytest.raises(TypeError, match="already marked"):
        nd.series(nd.constant(1.0))


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_a_step_may_take_a_derivative(compile):
    class Descends(nd.Expon):
        def forward(self, x):
            with torch.enable_grad():
                y = (x * x).detach().requires_grad_()
                slope = torch.autograd.grad((y * y).sum(), y)[0]
            return super().forward(slope)

    xs = torch.rand(6, 3, dtype=torch.float64)
    found = simulate(Descends(3), 6 * u.ms, nd.series(xs), ["output"], progress=False, compile=compile)
    wanted = nd.unroll(nd.Expon(3), 2 * xs * xs)
    torch.testing.assert_close(found["output"].values, wanted, rtol=1e-12, atol=0.0)


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.N = nd.LIF(4, R=20 * u.Gohm)

    def forward(self, spikes: Tensor, I: Tensor) -> Tensor:
        return self.N(0.2 * spikes + I)


class Echo(nn.Module):
    """Its output is its input."""

    def __init__(self, size: int, dt: u.Quantity = 1 * u.ms) -> None:
        super().__init__()
        self.synapse = nd.Expon(size, dt=dt)

    def forward(self, x: Tensor) -> Tensor:
        self.synapse(x)
        return x


def test_a_poisson_source_is_an_input() -> None:
    """With its rate, and no two samples of a batch alike."""
    source = nd.PoissonSpike(50, 80 * u.Hz)
    events = nd.simulate(Echo(50), 2 * u.s, source, ["spikes"], batch=3, compile=False)["spikes"]
    n = 3 * 50 * 2000
    assert len(events) == pytest.approx(0.08 * n, abs=4 * (0.08 * 0.92 * n) ** 0.5)
    trains = events.to_tensor()
    assert (trains[:, 0] * trains[:, 1]).mean() == pytest.approx(0.08**2, rel=0.1)


def test_sources_beside_other_inputs() -> None:
    source, I = nd.SpikeTime(4, [0, 2, 3], [0, 7, 40] * u.ms), torch.linspace(0, 0.08, 60)
    rows = I[:, None].expand(60, 4).contiguous()
    for other in (nd.series(rows), lambda first, n, _: rows[torch.arange(first, first + n) % 60]):
        found = nd.simulate(Both(), 60 * u.ms, (source, other), ["N.V"], compile=False)["N.V"].values
        net = Both()
        nd.reset_states(net)
        wanted = torch.stack([(net(*x), net.N.V)[1] for x in zip(source(60), rows, strict=True)])
        assert (found - wanted.detach()).abs().max() < 1e-12


def test_a_source_does_not_depend_on_where_a_run_was_stopped() -> None:
    inputs = nd.PoissonSpike(4, 100 * u.Hz), nd.constant(0.04)
    whole = nd.simulate(net := Both(), 90 * u.ms, inputs, ["spikes"], seed=3, compile=False)
    first = nd.simulate(net, 35 * u.ms, inputs, ["spikes"], seed=3, compile=False)
    after = {"states": first.states, "start": first.step}
    rest = nd.simulate(net, 55 * u.ms, inputs, ["spikes"], seed=3, compile=False, **after)
    joined = nd.Recording.join(first, rest)["spikes"]
    assert len(joined) > 10
    assert torch.equal(joined.steps, whole["spikes"].steps)
    assert torch.equal(joined.neurons, whole["spikes"].neurons)


def test_sources_that_cannot_be_an_input() -> None:
    with pytest.raises(TypeError, match="PoissonEncoder encodes rates that it is called with"):
        nd.simulate(nd.LIF(4), 9 * u.ms, nd.PoissonEncoder(), compile=False)
    with pytest.raises(ValueError, match=r"the input, a PoissonSpike, has dt=0.1 ms, the network has dt=1 ms"):
        nd.simulate(nd.LIF(4), 9 * u.ms, nd.PoissonSpike(4, 9 * u.Hz, dt=0.1 * u.ms), compile=False)
    with pytest.raises(ValueError, match=r"input 2 of 2 of shape \(9, 4\) .* beside a function or a source"):
        nd.simulate(Both(), 9 * u.ms, (nd.PoissonSpike(4, 9 * u.Hz), torch.rand(9, 4)), compile=False)


def test_a_function_of_time_is_an_input() -> None:
    def sine(t: u.Quantity) -> u.Quantity:
        return (0.5 + 0.4 * np.sin(t.to("ms").magnitude / 7)) * u.pA

    I = torch.tensor([0.5 + 0.4 * math.sin(0.5 * i / 7) for i in range(100)])
    for net, width in ((nd.LIF(3, R=2 * u.Gohm, dt=0.5 * u.ms), 3), (Echo(2, 0.5 * u.ms), 2)):
        rows = I[:, None].expand(100, width).contiguous()
        f = sine if width == 3 else lambda t: torch.full((2,), sine(t).magnitude)
        found = nd.simulate(net, 50 * u.ms, f, ["output"], compile=False)["output"].values
        assert (found - nd.unroll(net, rows, compile=False)).abs().max() < 1e-12
    with pytest.raises(pint.DimensionalityError, match="takes pA"):
        nd.simulate(nd.LIF(3), 5 * u.ms, lambda t: 1 * u.mV, compile=False)
    with pytest.raises(TypeError, match=r"of \(a, b\), wanted f\(first, steps, generator\), .* or f\(t\)"):
        nd.simulate(nd.LIF(3), 5 * u.ms, lambda a, b: a, compile=False)
    for wrong in (lambda t: 1.0 * (t > 5), lambda t: math.sin(t), lambda t: torch.exp(-t)):
        with pytest.raises(TypeError, match=r"the input f\(t\) fails at t = 0 ms: .* t > 5 \* u.ms, .* u.to_canonical"):
            nd.simulate(nd.LIF(3), 5 * u.ms, wrong, compile=False)
    with pytest.raises(ValueError, match="of my own"):
        nd.simulate(nd.LIF(3), 5 * u.ms, _fails, compile=False)
    grows = lambda t: torch.ones(2, 3) if t > 1 * u.ms else torch.ones(3)  # noqa: E731
    with pytest.raises(ValueError, match=r"f\(t\) has shape \(2, 3\) at t = 1.5 ms, and \(3,\) at 1 ms; return one"):
        nd.simulate(nd.LIF(3, dt=0.5 * u.ms), 5 * u.ms, grows, compile=False)


def _fails(t: u.Quantity) -> float:
    raise ValueError("of my own")


@pytest.mark.parametrize("compile", [False, True])
def test_a_series_with_a_time_step_of_its_own(compile: bool) -> None:
    """Its rows are those of a series in which each is repeated; also in parts, and beside a source."""
    net, rows = nd.LIF(3, dt=0.1 * u.ms), 3 * torch.rand(7, 3)
    fine = rows.repeat_interleave(10, 0)[:65]
    wanted = nd.simulate(net, 6.5 * u.ms, nd.series(fine), ["V"], compile=False)["V"].values
    found = nd.simulate(net, 6.5 * u.ms, nd.series(rows, dt=1 * u.ms), ["V"], compile=compile)
    assert torch.equal(found["V"].values, wanted)
    for batch in ((), (2,)):
        number = nd.series(rows[:, 0].numpy(), dt=1 * u.ms)
        one = nd.simulate(net, 6.5 * u.ms, number, ["V"], batch=batch, compile=False)
        assert one["V"].values.shape == (65, *batch, 3)
        same = nd.simulate(net, 6.5 * u.ms, nd.series(fine[:, :1].expand(65, 3)), ["V"], compile=False)["V"].values
        torch.testing.assert_close(one["V"].values, same[(slice(None), *[None for _ in batch])].expand(65, *batch, 3))


def test_a_series_with_a_time_step_of_its_own_beside_a_source_and_wrong_ones() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.N = nd.LIF(3, dt=0.1 * u.ms)

        def forward(self, spikes: torch.Tensor, I: torch.Tensor) -> torch.Tensor:
            return self.N(2 * spikes + I)

    source, rows = nd.SpikeTime(3, [0, 2], [0.3, 2.1] * u.ms, dt=0.1 * u.ms), torch.rand(3, 3)
    given = (source, nd.series(rows * u.pA, dt=1 * u.ms))
    found = nd.simulate(Sum(), 3 * u.ms, given, ["N.V"], compile=False, start=5)["N.V"].values
    spikes = source(35)[5:]
    both = nd.series(spikes), nd.series(rows.repeat_interleave(10, 0))
    wanted = nd.simulate(Sum(), 3 * u.ms, both, ["N.V"], compile=False)["N.V"].values
    assert torch.equal(found, wanted)
    net = nd.LIF(3, dt=0.1 * u.ms)
    with pytest.raises(ValueError, match=r"dt of nd\.series must be a positive multiple of dt=0\.1 ms, got 0\.25 ms"):
        nd.simulate(net, 3 * u.ms, nd.series(rows, dt=0.25 * u.ms))
    with pytest.raises(ValueError, match=r"\(3, 3\) is a series with 3 rows, wanted 4, one for 10 of the 35 steps"):
        nd.simulate(net, 3.5 * u.ms, nd.series(rows, dt=1 * u.ms))
