"""The example networks, small and short, do what they are known for; benchmarks/ has the full sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference.coba_network import irregularity

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import NETWORKS, brunel, inhibitory_plasticity, synfire, working_memory


def rate(recording: nd.Recording) -> float:
    return recording["spikes"].rates.to("Hz").magnitude.mean().item()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_builds_and_steps(name: str) -> None:
    net = NETWORKS[name].build(scale=0.02, seed=1)
    recording = NETWORKS[name].run(net, 5 * u.ms, compile=False)
    assert recording.step * recording["spikes"].dt == pytest.approx(5)  # steps of gamma are shorter
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


def test_the_synfire_chain_rests_and_carries_packets() -> None:
    """Diesmann et al. (1999) at its own dt. With the exact method Brian2's spontaneous rate is 3.0 Hz."""
    net, batch = synfire.SynfireChain(seed=1), (8,)
    after = {"batch": batch}
    start = nd.simulate(net, 20 * u.ms, net.inputs(batch=batch), compile=False, **after)
    after = {"states": start.states, "start": start.step}
    for spikes, low, high in ((85, 90, 100), (25, 0, 5)):  # per cent of the neurons of the last group
        inputs = net.inputs(spikes, batch=batch)
        found = nd.simulate(net, 39 * u.ms, inputs, ["spikes"], compile=False, **after)["spikes"]
        dense = found.to_tensor(torch.bool).unflatten(-1, (10, 100))  # from 20 ms on
        assert dense[:250].double().mean() / 1e-4 == pytest.approx(3.0, rel=0.2)  # 5 standard errors of 600 spikes
        late = dense[310:, :, 9]  # 51 to 59 ms
        most = max(late[k : k + 20].any(0).double().mean().item() for k in range(0, 60, 5))
        assert low <= 100 * most <= high


@pytest.mark.long
def test_spontaneous_rate_of_the_synfire_chain(long_chunks) -> None:
    rates = []
    for seed in range(5):
        net = synfire.SynfireChain(seed=seed)
        inputs = net.inputs(0)
        spikes = nd.simulate(net, 3 * u.s, inputs, ["spikes"], seed=seed, progress=False)["spikes"]
        rates.append(float((spikes.steps >= 1000).sum()) / 1000 / 2.9)
    print(rates)
    assert np.mean(rates) == pytest.approx(3.0, rel=0.1)


@pytest.mark.long
def test_brunel_regimes() -> None:
    """Figure 8 of Brunel (2000), full size. His simulations: rates of 60.7 Hz, 37.7 Hz and 5.5 Hz in the second to the
    fourth panel, oscillations of 180 Hz and 22 Hz in the second and the fourth."""
    torch.set_default_dtype(torch.float32)
    net = brunel.Brunel()
    rate, cv, frequency = {}, {}, {}
    for name, (g, drive) in brunel.REGIMES.items():
        net.set_regime(g, drive)
        spikes = brunel.run(net, 0.3 * u.s, compile=False)["spikes"]
        steps, neurons = spikes.steps.numpy(), spikes.neurons.numpy()
        steps, neurons = steps[steps >= 1000], neurons[steps >= 1000]
        rate[name] = len(steps) / 12_500 / 0.2
        cv[name] = irregularity(steps, neurons)
        population = np.bincount((steps - 1000) // 10, minlength=200)  # of 1 ms
        frequency[name] = 5 * np.abs(np.fft.rfft(population - population.mean())).argmax()
    assert rate["SR"] > 300  # near the inverse of the refractory period
    assert cv["SR"] < 0.01
    assert abs(frequency["SR"] - rate["SR"]) < 5  # all fire in every cycle
    assert rate["SI fast"] == pytest.approx(60.7, rel=0.1)
    assert frequency["SI fast"] == pytest.approx(180, abs=20)
    assert rate["AI"] == pytest.approx(37.7, rel=0.05)
    assert rate["SI slow"] == pytest.approx(5.5, rel=0.25)
    assert frequency["SI slow"] == pytest.approx(22, abs=10)
    assert cv["SI fast"] > 1.3 * cv["AI"] > 0.3  # irregular


def together(counts: torch.Tensor) -> float:
    """The mean correlation of pairs of neurons; counts are ``(windows, neurons)``."""
    pairs = torch.corrcoef(counts[:, counts.std(0) > 0].T)
    return (pairs.sum() - len(pairs)).item() / (len(pairs) * (len(pairs) - 1))


def test_inhibition_learns_to_keep_the_rate_down() -> None:
    net = inhibitory_plasticity.InhibitoryPlasticity(0.5, seed=1, eta=0.3 * u.nS)
    spikes = inhibitory_plasticity.run(net, 0.6 * u.s, progress=False)["spikes"]
    rates = nd.analysis.counts(spikes, 0.1 * u.s)[:, : net.exc].double().mean(1) * 10
    assert rates[0] > 50
    assert rates[-1] < 15
    assert net.IE.weight.mean() > 0.5
    assert net.II.weight.unique().tolist() == [3.0]


@pytest.mark.long
def test_inhibition_learns_the_target_rate(long_chunks) -> None:
    """Figure 4 of Vogels and others (2011): from synchronous, regular spikes to uncorrelated, irregular ones."""
    torch.set_default_dtype(torch.float32)
    net = inhibitory_plasticity.InhibitoryPlasticity(seed=0)
    spikes = inhibitory_plasticity.run(net, 20 * u.s, progress=False)["spikes"]
    counts = nd.analysis.counts(spikes, 5 * u.ms)[:, : net.exc].double()
    assert counts[2000:].mean() / 5e-3 == pytest.approx(5, rel=0.1)
    before, after = together(counts[:20, ::4]), together(counts[3600:, ::4])
    late = spikes.steps >= 180_000
    cv = irregularity(spikes.steps[late].numpy(), spikes.neurons[late].numpy())
    print(before, after, cv)
    assert before > 0.5
    assert abs(after) < 0.2
    assert cv > 0.7
    assert net.IE.weight.mean() > 1


@pytest.mark.long
def test_working_memory_holds_the_cued_item() -> None:
    """After a cue of 350 ms its population keeps firing above the others, which are as before; from 0.4 s to 1.2 s."""
    torch.set_default_dtype(torch.float32)
    net = working_memory.WorkingMemory(0.4)
    spikes = working_memory.run(net, 0.8 * u.s, start=4000, compile=False)["spikes"]
    held = spikes.neurons[spikes.steps >= 8700] // net.chosen
    rates = torch.bincount(held)[: working_memory.POPULATIONS] / net.chosen / 0.33
    assert 2 < rates[0] < 10
    assert rates[0] > 2.5 * rates[1:].max()
    facilitation = net.EE.plasticity.u[: net.exc // 2].view(working_memory.POPULATIONS, -1).mean(1)
    assert facilitation[0] > 1.3 * facilitation[1:].max()  # where the memory is
