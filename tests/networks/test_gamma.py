"""Wang and Buzsaki's network against Brian2, recorded by reference/make_brian2_gamma.py, and what it is known for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import neurodyn as nd
from neurodyn import units as u
from neurodyn.examples import wang_buzsaki


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "reference" / "brian2_gamma.npz") as file:
        return {key: file[key] for key in file.files}


def simulated(
    recorded: dict[str, np.ndarray], duration: u.Quantity, record: list[str], **options: bool
) -> nd.Recording:
    """A run with the connections, currents and initial values of the record."""
    net = wang_buzsaki.WangBuzsaki()
    pre, post = (recorded[key].astype(int) for key in ("pre", "post"))
    weight = torch.as_tensor(0.1 / np.bincount(post)[post]) * u.nS
    net.connection = nd.Sparse((pre, post), (100, 100), weight=weight)
    net.drive = torch.as_tensor(recorded["drive"])
    nd.reset_states(net)
    V = torch.as_tensor(recorded["V_initial"])
    h, n = (wang_buzsaki.steady(*of_gate) for of_gate in wang_buzsaki.rates(V))
    states = nd.get_states(net) | {"neurons.V": V, "neurons.h": h, "neurons.n": n}
    return nd.simulate(net, duration, record=record, states=states, progress=False, **options)


def check_spikes(found: nd.Events, recorded: dict[str, np.ndarray]) -> None:
    """The same spikes as in the record, up to where the run ends."""
    early = recorded["spike_step"] < found.stop
    wanted = sorted(zip(recorded["spike_step"][early], recorded["spike_neuron"][early], strict=True))
    assert len(wanted) > found.stop / 50
    assert sorted(zip(found.steps.tolist(), found.neurons.tolist(), strict=True)) == wanted


def test_the_same_potentials_as_brian2(recorded: dict[str, np.ndarray]) -> None:
    found = simulated(recorded, 5 * u.ms, ["spikes", "neurons.V"], compile=False)
    check_spikes(found["spikes"], recorded)
    V = found["neurons.V"].to_numpy().magnitude[:: recorded["every"], recorded["recorded"]]
    np.testing.assert_allclose(V, recorded["V"][: len(V)], rtol=0, atol=1e-9)


@pytest.mark.long
@pytest.mark.kernels  # a step takes 4 ms without
def test_the_same_spikes_as_brian2(recorded: dict[str, np.ndarray]) -> None:
    found = simulated(recorded, 100 * u.ms, ["spikes"])["spikes"]
    assert found.stop == 10_000
    check_spikes(found, recorded)


def coherence(spikes: nd.Events, window: int, first: int) -> float:
    """The paper's: which part of the spikes of two neurons share a bin of `window` steps, the mean over all pairs."""
    steps, neurons = ((x[spikes.steps >= first]).numpy() for x in (spikes.steps, spikes.neurons))
    bins = (spikes.stop - first) // window
    fired = np.zeros((bins + 1, spikes.shape[-1]))
    fired[(steps - first) // window, neurons] = 1
    number, shared = fired[:bins].sum(0), fired[:bins].T @ fired[:bins]
    shared /= np.sqrt(np.outer(number, number))
    return (shared.sum() - np.trace(shared)) / (len(number) * (len(number) - 1))


def test_coherence_of_known_spikes() -> None:
    together = torch.zeros(10_000, 20)
    together[::100] = 1.0
    assert coherence(nd.Events.of(together, 0.1 * u.ms), 10, 1000) == pytest.approx(1)
    random = (torch.rand(100_000, 20, generator=torch.Generator().manual_seed(0)) < 0.004).double()  # 40 Hz
    assert coherence(nd.Events.of(random, 0.1 * u.ms), 25, 0) == pytest.approx(0.1, abs=0.01)


@pytest.mark.long
@pytest.mark.kernels
def test_synchrony_in_the_gamma_range() -> None:
    """Equal neurons come to fire at once, at about 40 Hz; with a spread of currents synchrony is partial, then lost.

    Bins are a tenth of a cycle, so that the coherence of independent neurons is 0.1.
    """
    bands = {0.0: ((38, 41), (0.85, 1.01)), 0.03: ((34, 40), (0.25, 0.7)), 0.1: ((28, 40), (0.07, 0.15))}
    for std, (rates, coherences) in bands.items():
        net = wang_buzsaki.WangBuzsaki(std=std * u.pA, seed=1)
        spikes = wang_buzsaki.run(net, 0.5 * u.s, progress=False)["spikes"]
        rate = (spikes.steps >= 30_000).sum().item() / 100 / 0.2
        found = coherence(spikes, round(1e4 / rate), 30_000)
        assert rates[0] < rate < rates[1], std
        assert coherences[0] < found < coherences[1], std


def test_connections() -> None:
    net = wang_buzsaki.WangBuzsaki(seed=3)
    pre, post = net.connection.pre_index, net.connection.post_index
    assert not (pre == post).any()
    assert len(pre) / 100 == pytest.approx(60, abs=2)  # 4 standard errors
    assert net.connection(torch.ones(100)).numpy() == pytest.approx(0.1)  # nS, all of them open
    assert net.drive.mean() == pytest.approx(1, abs=0.015)
    assert net.drive.std() == pytest.approx(0.03, rel=0.3)
    larger = wang_buzsaki.WangBuzsaki(2, seed=3)
    assert len(larger.connection.indices) / 200 == pytest.approx(60, abs=2)


def test_a_call_without_states_says_what_to_do_and_batches_step() -> None:
    net = wang_buzsaki.WangBuzsaki(0.1)
    with pytest.raises(nd.UnsetState, match=r"nd\.reset_states\(net, \*batch\)"):
        net()
    nd.reset_states(net, 3)
    assert net().shape == (3, 10)
    wanted = net.neurons.V[0]
    nd.reset_states(net)
    net()
    torch.testing.assert_close(wanted, net.neurons.V, rtol=0, atol=1e-12)
