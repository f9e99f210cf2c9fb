"""Losses against closed forms and finite differences, statistics of layers, and weights for a target rate."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import losses
from neurodyn import units as u


def random_spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(shape) < 0.2).double()


def test_first_spike_times() -> None:
    spikes = random_spikes(12, 5, 4).requires_grad_()
    times = losses.first_spike_times(spikes, dt=0.5 * u.ms)
    for b, n in itertools.product(range(5), range(4)):
        at = spikes[:, b, n].nonzero()
        assert times[b, n] == (0.5 * at[0].item() if len(at) else 6.0)


def test_first_spike_gradient_is_the_effect_of_one_spike_more() -> None:
    # the time is affine in each spike, so the gradient at a step without a spike is the change that a spike makes
    spikes = torch.zeros(9, 1)
    spikes[5] = 1
    spikes.requires_grad_()
    losses.first_spike_times(spikes).sum().backward()
    for k in (0, 3, 4, 7):
        more = spikes.detach().clone()
        more[k] = 1
        assert spikes.grad[k] == losses.first_spike_times(more) - 5
    without = spikes.detach().clone()
    without[5] = 0
    assert spikes.grad[5] == 5 - losses.first_spike_times(without)


def test_losses_are_what_their_formulas_say() -> None:
    spikes, labels = random_spikes(20, 3, 2, 4), torch.randint(4, (3, 2))
    counts = spikes.sum(0)
    wanted = torch.full_like(counts, 1.0).scatter(-1, labels[..., None], 6.0)
    assert (losses.spike_count(spikes, labels, true=6, false=1) - ((counts - wanted) ** 2).mean()).abs() < 1e-12
    times = losses.first_spike_times(spikes)
    p = torch.softmax(-times / 3, -1).gather(-1, labels[..., None])
    assert (losses.first_spike(spikes, labels, tau=3 * u.ms) + p.log().mean()).abs() < 1e-12
    V = torch.randn(20, 3, 2, 4)
    found, total = losses.membrane(V, labels, V_th=1 * u.mV, margin=0.2 * u.mV), 0.0
    for b, c, k in itertools.product(range(3), range(2), range(4)):
        top = V[:, b, c, k].max().item()
        total += max(0.0, 1.2 - top) if labels[b, c] == k else max(0.0, top - 0.8)
    assert abs(found.item() - total / 24) < 1e-12
    rates = spikes.mean((0, 1, 2)) * 1000
    assert (losses.rate(spikes, low=200 * u.Hz, high=200 * u.Hz) - ((rates - 200) ** 2).mean()).abs() < 1e-8
    assert losses.rate(spikes, low=0 * u.Hz, high=1000 * u.Hz) == 0
    assert losses.rate(spikes[..., :1], low=0.3 / u.ms, dt=1 * u.ms) == pytest.approx(
        (300 - rates[0]).clamp(min=0) ** 2
    )
    low, high = -1 * u.mV, 0.5 * u.mV
    assert (losses.voltage(V, low=low, high=high) - ((V - V.clamp(-1, 0.5)) ** 2).mean()).abs() < 1e-12


def test_a_layer_learns_to_spike_at_a_given_time() -> None:
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nd.LIF(3, tau=5 * u.ms))
    xs, labels = torch.eye(3).expand(10, 3, 3), torch.arange(3)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.15)
    history = []
    for _ in range(25):
        spikes = nd.unroll(net, xs, compile=False)
        loss = losses.first_spike(spikes, labels, tau=2 * u.ms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.2 * history[0]
    assert torch.equal(losses.first_spike_times(spikes).argmin(-1), labels)


def test_recorded_potentials_train_a_membrane_loss() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nd.LIF(2))
    _, recording = nd.unroll(net, torch.rand(10, 4, 3), record="1.V", compile=False)
    losses.membrane(recording["1.V"].values, torch.tensor([0, 1, 1, 0]), V_th=1 * u.mV).backward()
    assert net[0].weight.grad.abs().max() > 0


def test_statistics() -> None:
    net = nn.Sequential(nn.Linear(3, 6), nd.LIF(6), nd.LeakySpikeReadout(6, 4))
    statistics = nd.SpikeStatistics(net)
    assert statistics.layers == ("1", "2.neuron")
    total, steps = torch.zeros(6), 0
    for seed, T in ((0, 10), (1, 25)):
        xs = 3 * torch.rand(T, 7, 3, generator=torch.Generator().manual_seed(seed))
        spikes = nd.unroll(net[:2], xs, compile=False)
        statistics.add(nd.unroll(net, xs, record=statistics.layers, compile=False)[1])
        total, steps = total + spikes.sum((0, 1)), steps + T * 7
    assert (statistics.rates["1"].magnitude - total / steps * 1000).abs().max() < 1e-9
    assert torch.equal(statistics.silent["1"], total == 0)
    assert 0 < statistics.silent["1"].sum() < 6
    lines = repr(statistics).splitlines()
    assert lines[0].split() == ["layer", "model", "neurons", "mean", "rate", "highest", "silent"]
    assert [line.split()[:3] for line in lines[1:]] == [["1", "LIF", "6"], ["2.neuron", "LeakySpike", "4"]]
    statistics.reset()
    assert statistics.rates["1"].magnitude.isnan().all()


def test_statistics_from_a_forward_hook_of_unroll() -> None:
    net = nn.Sequential(nn.Linear(3, 6), nd.Unroll(nd.LIF(6), compile=False), nn.Linear(6, 2))
    statistics = nd.SpikeStatistics(net)
    net[1].register_forward_hook(lambda module, args, ys: statistics.add({"1.module": ys}))
    xs = 3 * torch.rand(10, 7, 3)
    net(xs)
    assert torch.equal(statistics.counts["1.module"], nd.unroll(nd.LIF(6), net[0](xs), compile=False).sum((0, 1)))


def test_weights_scaled_for_a_rate() -> None:
    projection = nd.Projection(nd.FixedProb(40, 30, 0.5, weight=1 * u.nS), synapse=nd.Expon(30), output=nd.CUBA())
    net = nn.Sequential(nn.Linear(10, 40), nd.LIF(40), projection, nd.Recurrent(nd.LIF(30), nn.Linear(30, 30)))
    xs = torch.randn(50, 8, 10)
    factors = nd.scale_weights(net, xs, 30 * u.Hz, compile=False)
    assert list(factors) == ["0", "2.connection"]
    statistics = nd.SpikeStatistics(net)
    statistics.add(nd.unroll(net, xs, record=statistics.layers, compile=False)[1])
    assert all(abs(rates.magnitude.mean() / 30 - 1) < 0.05 for rates in statistics.rates.values())
    assert net[0].weight.requires_grad


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda s: losses.spike_count(s, torch.zeros(2), true=1, false=0), ValueError, "torch.long of shape (2,)"),
        (lambda s: losses.first_spike(s, torch.zeros(3).long(), tau=1 * u.ms), ValueError, "first_spike: labels must"),
        (lambda s: losses.membrane(s, torch.zeros(2).long(), V_th=1), TypeError, "membrane: V_th needs a unit"),
        (lambda s: losses.rate(s), TypeError, "give low, high or both"),
        (lambda s: losses.rate(s, low=1 * u.mV), Exception, "rate: low"),
        (lambda s: nd.SpikeStatistics(nn.Linear(2, 2)), ValueError, "Linear has no spiking layer"),
        (lambda s: nd.SpikeStatistics(nd.LIF(3)).add({"": s}), ValueError, "has size (3,), got (5, 2, 4)"),
        (lambda s: nd.scale_weights(nd.LIF(4), s, 5 * u.Hz, compile=False), ValueError, "no weights of its own"),
        (
            lambda s: nd.scale_weights(nn.Sequential(nn.Linear(4, 4), nd.LIF(4)), 0 * s, 900 * u.Hz, compile=False),
            ValueError,
            "no factor of the weights of '0' gives '1' a rate of 900 Hz",
        ),
    ],
)
def test_errors(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as raised:
        call(torch.ones(5, 2, 4))
    assert words in str(raised.value)
