"""simulate: the same numbers as a loop, records, inputs, resuming, memory, errors."""

from __future__ import annotations

import gc

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
    import sys

    monkeypatch.setattr(sys.modules["neurodyn.engine.rows"], "_BLOCK_BYTES", 4000)  # 25 rows of input, fewer of records
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
    from neurodyn.engine import chunk

    def fail(_: object) -> None:
        raise RuntimeError("InvalidCxxCompiler")

    monkeypatch.setattr(chunk, "wait_for", fail)
    net, xs = nn.Sequential(nd.Expon(7), nd.LIF(7)), 2 * torch.rand(45, 7)
    with pytest.warns(nd.EagerWarning, match="no working C"):
        found = simulate(net, 45 * u.ms, xs, ["output"])
    assert torch.equal(found["output"].values, simulate(net, 45 * u.ms, xs, ["output"], compile=False)["output"].values)
