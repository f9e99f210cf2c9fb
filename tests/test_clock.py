"""`Clock`: the time inside a model, the same in every loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

DT = 0.25  # ms


class Driven(nn.Module):
    """Its output is the time, and its neurons are driven by a sine of it."""

    def __init__(self, dtype: torch.dtype = torch.float64):
        super().__init__()
        with nd.default_dt(DT * u.ms):
            self.N, self.clock = nd.LIF(4, tau=7 * u.ms, R=1 * u.Gohm, dtype=dtype), nd.Clock()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        t = self.clock()
        return {"t": t, "spikes": self.N(x * (1 + torch.sin(2 * math.pi * t / 20)))}


def V_of(times: Tensor, x: Tensor) -> Tensor:
    """V after each of these steps, by the exact step of the equation."""
    keep, V, found = math.exp(-DT / 7), torch.zeros_like(x), []
    for t in times.tolist():
        V = x * (1 + math.sin(2 * math.pi * t / 20)) * (1 - keep) + V * keep
        V = V - (V >= 1).to(V)
        found.append(V)
    return torch.stack(found)


X = torch.tensor([0.3, 0.7, 0.9, 1.4], dtype=torch.float64)
TIMES = torch.arange(90, dtype=torch.float64) * DT


def test_a_loop_of_ones_own() -> None:
    net = Driven()
    V, times = [], []
    for _ in range(90):
        assert net.clock.read() == len(times) * DT
        times.append(net(X)["t"])
        V.append(net.N.V)
    assert torch.equal(torch.stack(times), TIMES)
    torch.testing.assert_close(torch.stack(V), V_of(TIMES, X), rtol=1e-10, atol=1e-12)
    nd.reset_states(net)
    assert net(X)["t"] == 0


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_unroll(compile: bool, batch: tuple[int, ...]) -> None:
    net, xs = Driven(), X.expand(90, *batch, 4).clone().requires_grad_()
    first, states = nd.unroll(net, xs[:37], return_states=True, compile=compile)
    rest, recording = nd.unroll(net, xs[37:], states=states, record="N.V", compile=compile)
    assert torch.equal(torch.cat((first["t"], rest["t"])), TIMES)
    wanted = V_of(TIMES, X)[37:].view(53, *(1 for _ in batch), 4).expand(53, *batch, 4)
    torch.testing.assert_close(recording["N.V"].values, wanted, rtol=1e-10, atol=1e-12)
    (found,) = torch.autograd.grad(recording["N.V"].values[-1].sum(), xs)
    _, other = nd.unroll(net, xs, record="N.V", compile=False)
    (wanted,) = torch.autograd.grad(other["N.V"].values[-1].sum(), xs)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("compile", [False, True])
def test_simulate_in_blocks_and_in_parts(compile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurodyn.run.input_rows._BLOCK_BYTES", 1000)  # blocks of some steps
    net, record = Driven(), ("t", "N.V")
    whole = nd.simulate(net, 90 * DT * u.ms, nd.constant(X), record, compile=compile)
    assert torch.equal(whole["t"].values, TIMES)
    torch.testing.assert_close(whole["N.V"].values, V_of(TIMES, X), rtol=1e-10, atol=1e-12)
    first = nd.simulate(net, 33 * DT * u.ms, nd.constant(X), record, compile=compile)
    after = {"states": first.states, "start": first.step}
    rest = nd.simulate(net, 57 * DT * u.ms, nd.constant(X), record, compile=compile, **after)
    assert torch.equal(nd.Recording.join(first, rest)["N.V"].values, whole["N.V"].values)


def test_in_simulate_it_is_the_time_of_the_records() -> None:
    net = Driven()
    for options in ({"start": 40}, {"states": nd.simulate(net, 5 * u.ms, nd.constant(X), compile=False).states}):
        found = nd.simulate(net, 5 * u.ms, nd.constant(X), ["t"], compile=False, **options)["t"]
        assert torch.equal(found.values, found.times.magnitude)


def test_a_stream_goes_on() -> None:
    net = Driven()
    nd.reset_states(net)
    step = nd.Stream(net, X)
    assert [float(step(X)["t"]) for _ in range(5)] == TIMES[:5].tolist()
    assert net.clock.read() == 5 * DT


def test_an_hour_has_no_rounding_and_changes_no_dtype() -> None:
    net = Driven(torch.float32)
    nd.reset_states(net)
    net.clock.set_steps(2**25 + 1)
    net.half().float()
    with torch.no_grad():
        out = net(X.float())
    assert float(out["t"]) == (2**25 + 1) * DT
    assert out["spikes"].dtype == torch.float32
    assert int(nd.get_states(net)["clock.steps"]) == 2**25 + 2
