"""The Ornstein-Uhlenbeck current against its closed form, within 4 standard errors."""

import math

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u


@pytest.mark.parametrize("dt", [0.05, 1.0, 5.0, 20.0])
def test_mean_variance_and_correlation(dt):
    n, tau, mu, sigma, T = 100_000, 5.0, 3.0, 0.7, 3
    noise = nd.OU(n, mean=mu * u.pA, sigma=sigma * u.pA, tau=tau * u.ms, dt=dt * u.ms)
    xi = torch.randn(T, n, generator=torch.Generator().manual_seed(0))
    I = nd.unroll(noise, xi, compile=False)
    for k in range(T):
        variance = sigma**2 * -math.expm1(-2 * (k + 1) * dt / tau)
        assert abs(I[k].mean().item() - mu) < 4 * math.sqrt(variance / n)
        assert abs(I[k].var().item() - variance) < 4 * variance * math.sqrt(2 / n)
    covariance = ((I[0] - mu) * (I[2] - mu)).mean().item()
    first, last = (sigma**2 * -math.expm1(-2 * k * dt / tau) for k in (1, 3))
    wanted = first * math.exp(-2 * dt / tau)
    assert abs(covariance - wanted) < 4 * math.sqrt((first * last + wanted**2) / n)


def test_it_starts_at_its_mean_or_where_it_is_told_and_without_noise_stays():
    noise = nd.OU(2, mean=torch.tensor([1.0, -2.0]) * u.pA, sigma=0 * u.pA)
    assert nd.unroll(noise, torch.randn(9, 4, 2), compile=False)[-1].eq(torch.tensor([1.0, -2.0])).all()
    with pytest.raises(ValueError, match="sigma must be zero or positive"):
        nd.OU(2, sigma=-1 * u.pA)


def test_a_noisy_neuron_in_a_simulation():
    net = torch.nn.Sequential(nd.OU(50, mean=0.8 * u.pA, sigma=0.3 * u.pA), nd.LIF(50, R=1 * u.Gohm))

    def noise(i, n, random):
        return torch.randn(n, 50, generator=random)

    first, second = (
        nd.simulate(net, 200 * u.ms, noise, ["1.V", "spikes"], seed=3, compile=False, progress=False) for _ in range(2)
    )
    assert torch.equal(first["1.V"].values, second["1.V"].values)
    assert first["spikes"].neurons.unique().numel() > 10
