"""The example networks, small and short, do what they are known for; benchmarks/ has the full sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.coba_network import irregularity

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import NETWORKS, brunel


def rate(recording: nd.Recording) -> float:
    return recording["spikes"].rates.to("Hz").magnitude.mean().item()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_builds_and_steps(name: str) -> None:
    net = NETWORKS[name].build(scale=0.02, seed=1)
    recording = NETWORKS[name].run(net, 5 * u.ms, compile=False)
    assert recording.step == 50
    assert isinstance(recording["spikes"], nd.Events)
    assert all(state.isfinite().all() for state in recording.states.values())
    again = NETWORKS[name].run(NETWORKS[name].build(scale=0.02, seed=1), 5 * u.ms, compile=False)
    assert torch.equal(again["spikes"].neurons, recording["spikes"].neurons)


@pytest.mark.parametrize(("name", "low", "high"), [("coba", 12, 30), ("cuba", 3, 12)])
def test_self_sustained_activity(name: str, low: float, high: float) -> None:
    torch.set_default_dtype(torch.float32)
    net = NETWORKS[name].build(scale=1, seed=1)
    assert len(net.E.connection.indices) / net.exc == pytest.approx(80, rel=0.02)
    assert low < rate(NETWORKS[name].run(net, 0.3 * u.s)) < high


def test_brunel_inputs_have_the_poisson_distribution() -> None:
    net = brunel.Brunel(0.02, drive=2.0)
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    count = sum((uniform > level).double() for level in net.levels)
    J = 0.1 / 0.02
    mean = 2 * 20 / J * 0.1 / 20
    assert abs(count.mean() - mean) < 5 * (mean / len(count)) ** 0.5
    assert abs(count.var() / mean - 1) < 0.05


@pytest.mark.slow
def test_brunel_regimes() -> None:
    """The four panels of figure 8 of Brunel (2000), with its simulated rates: full size, 0.4 s each."""
    torch.set_default_dtype(torch.float32)
    net, rates, cvs, swing = brunel.Brunel(), {}, {}, {}
    for name, (g, drive) in brunel.REGIMES.items():
        net.set_regime(g, drive)
        spikes = brunel.run(net, 0.4 * u.s, compile=False)["spikes"]
        steps, neurons = spikes.steps.numpy(), spikes.neurons.numpy()
        steps, neurons = steps[steps >= 1000], neurons[steps >= 1000]
        rates[name] = len(steps) / 12_500 / 0.3
        cvs[name] = irregularity(steps, neurons)
        population = np.bincount((steps - 1000) // 5, minlength=600)  # of 0.5 ms
        swing[name] = population.std() / population.mean()
    print(rates, cvs, swing)
