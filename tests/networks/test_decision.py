"""Wang's decision network (2002) against Brian2, recorded by reference/make_brian2_decision.py, and alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import make_brian2_decision as reference
from reference.coba_network import irregularity

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import decision


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "reference" / "brian2_decision.npz") as file:
        return {key: file[key] for key in file.files}


def check_spikes(recorded: dict[str, np.ndarray], steps: int, **options: bool) -> nd.Recording:
    """The same spikes in the first steps as Brian2 with the same start and external spikes; the run."""
    net = decision.Decision(reference.SCALE)
    nd.reset_states(net)
    states = nd.get_states(net) | {"neurons.V": torch.from_numpy(reference.start())}
    given = nd.series(torch.from_numpy(reference.counts()[:steps]).double())
    record = ["spikes", "neurons.V"]
    found = nd.simulate(net, steps * 0.1 * u.ms, given, record, states=states, progress=False, **options)
    spikes, early = found["spikes"], recorded["steps"] < steps
    wanted = sorted(zip(recorded["steps"][early].tolist(), recorded["neurons"][early].tolist(), strict=True))
    assert len(wanted) > steps / 40
    assert sorted(zip(spikes.steps.tolist(), spikes.neurons.tolist(), strict=True)) == wanted
    return found


def test_the_same_potentials_as_brian2(recorded: dict[str, np.ndarray]) -> None:
    V = check_spikes(recorded, len(recorded["V"]), compile=False)["neurons.V"].values[:, reference.WATCHED]
    torch.testing.assert_close(V, torch.from_numpy(recorded["V"]), rtol=0, atol=1e-9)


@pytest.mark.long
@pytest.mark.kernels
def test_the_same_spikes_as_brian2(recorded: dict[str, np.ndarray]) -> None:
    check_spikes(recorded, reference.STEPS)


@pytest.mark.long
@pytest.mark.kernels
def test_rates_and_irregularity_as_in_brian2(recorded: dict[str, np.ndarray]) -> None:
    """Full size, 48 trials at rest and with a stimulus; Brian2 solves the published equations with rk4, 20 trials."""
    torch.set_default_dtype(torch.float32)
    net, trials = decision.Decision(), 48
    run = decision.run(
        net,
        2.5 * u.s,
        coherence=reference.COHERENCE,
        onset=reference.ONSET * 0.1 * u.ms,
        batch=(trials,),
        progress=False,
    )
    bounds = np.cumsum([0, *net.groups.values()])
    rates, cv = np.empty((trials, 2, 4)), np.empty((trials, 2))
    for trial in range(trials):
        one = run["spikes"].sample(trial)
        steps, neurons = one.steps.numpy(), one.neurons.numpy()
        for k, ((first, stop), chosen) in enumerate(zip(reference.WINDOWS, (3, 0), strict=True)):
            inside = (steps >= first) & (steps < stop)
            count = np.histogram(neurons[inside], bounds)[0]
            rates[trial, k] = count / [*net.groups.values()] / ((stop - first) * 1e-4)
            mine = inside & (neurons >= bounds[chosen]) & (neurons < bounds[chosen + 1])
            cv[trial, k] = irregularity(steps[mine], neurons[mine])
    print(rates.mean(0).round(3), recorded["rates"].mean(0).round(3), cv.mean(0), recorded["cv"].mean(0))
    wanted = recorded["rates"]
    error = np.sqrt(rates.var(0, ddof=1) / trials + wanted.var(0, ddof=1) / len(wanted))
    print(rates.mean(0) / wanted.mean(0) - 1, error / wanted.mean(0))
    assert (abs(rates.mean(0) - wanted.mean(0)) < 0.03 * wanted.mean(0) + 3 * error).all()
    assert (abs(cv.mean(0) - recorded["cv"].mean(0)) < 0.05).all()


def test_a_stimulus_decides() -> None:
    """A quarter of the neurons: what has more evidence fires more, and the other one less than at rest."""
    net = decision.Decision(0.1)
    assert list(net.groups.values()) == [24, 24, 112, 40]
    rates = decision.stimulus(100, duration=0.1 * u.s, batch=(3,), seed=1)
    assert rates.shape == (2, 3, 2)
    assert rates[..., 0].mean() == pytest.approx(0.08, abs=0.005)
    assert abs(rates[..., 1].mean()) < 0.005
    nd.reset_states(net, 3)
    draw = net.external(1e3 * rates, 100)  # strong, to be seen in few draws
    counts = draw(90, 20, torch.Generator().manual_seed(0))
    assert counts.shape == (20, 3, 200)
    assert counts[:10].mean() == pytest.approx(0.24, abs=0.02)
    assert counts[10:, :, :24].mean() == pytest.approx(float(100 * rates[0, :, 0].mean()) + 0.24, rel=0.05)
    assert counts[10:, :, 48:].mean() == pytest.approx(0.24, abs=0.02)


def test_weights_inside_a_population_are_made_up_for() -> None:
    """In groups that fire at one rate an excitatory neuron gets what it would without populations."""
    net = decision.Decision(0.5)
    for connection, (to_E, to_I) in ((net.to_AMPA, decision.AMPA), (net.to_NMDA, decision.NMDA)):
        y = connection(torch.ones(2, 800))
        assert y.shape == (2, 1000)
        torch.testing.assert_close(y[:, :800], torch.full((2, 800), 1600 * to_E))
        torch.testing.assert_close(y[:, 800:], torch.full((2, 200), 1600 * to_I))
    dense, sizes = torch.zeros(1000, 800), [0, *itertools.accumulate(net.groups.values())]
    for q, (a, b) in enumerate(itertools.pairwise(sizes)):
        for p, (c, d) in enumerate(itertools.pairwise(sizes[:4])):
            dense[a:b, c:d] = net.to_NMDA.weight[q, p]
    x = torch.rand(3, 800)
    torch.testing.assert_close(net.to_NMDA(x), x @ dense.T)
