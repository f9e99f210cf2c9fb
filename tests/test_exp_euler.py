"""exp_euler against the trace of brainstate, and its stochastic form against the Ornstein-Uhlenbeck process."""

import math

import pytest
import torch
from reference.traces import load
from torch.testing import assert_close

from neurodyn import exp_euler

EQUATIONS = {
    "decay": lambda x, I, tau, K, r, k0: -x / tau,
    "leak_drive": lambda x, I, tau, K, r, k0: (-x + I) / tau,
    "logistic": lambda x, I, tau, K, r, k0: r * x * (1 - x / K),
    "cubic": lambda x, I, tau, K, r, k0: (x - x**3 / 3 + I) / tau,
    "constant": lambda x, I, tau, K, r, k0: k0 + 0 * x,
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_trace(name):
    trace = load("exp_euler")
    assert set(trace.keys("st_")) == set(EQUATIONS)
    parameters = [torch.from_numpy(trace.arrays[f"p_{key}"]) for key in ("tau", "K", "r", "k0")]
    x, dt = trace["init_x"], trace.dt.magnitude
    for drive, wanted in zip(trace["in_drive"], trace[f"st_{name}"], strict=True):
        x = exp_euler(EQUATIONS[name], x, drive, *parameters, dt=dt)
        assert_close(x, wanted, rtol=1e-9, atol=1e-9)


def test_ornstein_uhlenbeck_mean_and_variance():
    r"""$dx = (\mu - x)/\tau\,dt + \sigma\,dW$ from x = 2, at several times; the variance is that of this scheme."""
    n, tau, mu, sigma, dt = 40_000, 5.0, 0.5, 0.3, 0.25
    x, decay = torch.full((n,), 2.0), math.exp(-dt / tau)
    for step in range(1, 81):
        x = exp_euler(lambda x: (mu - x) / tau, x, dt=dt, diffusion=lambda x: torch.full_like(x, sigma))
        if step in (1, 10, 80):
            mean = mu + (2 - mu) * decay**step
            variance = sigma**2 * dt * (1 - decay ** (2 * step)) / (1 - decay**2)
            assert abs(x.mean().item() - mean) < 4 * math.sqrt(variance / n)
            assert abs(x.var().item() - variance) < 4 * variance * math.sqrt(2 / n)
    assert abs(variance - sigma**2 * tau / 2) < 0.06 * variance  # close to the stationary variance of the process


def test_noise_given_by_the_caller():
    x, noise = torch.rand(5), torch.randn(5)
    stepped = exp_euler(lambda x: -x, x, dt=0.5, diffusion=lambda x: 2 * x, noise=noise)
    assert_close(stepped, x * math.exp(-0.5) + 2 * x * math.sqrt(0.5) * noise)
    torch.manual_seed(3)
    drawn = exp_euler(lambda x: -x, x, dt=0.5, diffusion=torch.ones_like)
    torch.manual_seed(3)
    assert_close(drawn, x * math.exp(-0.5) + math.sqrt(0.5) * torch.randn(5))


def test_noise_is_checked():
    with pytest.raises(TypeError, match="noise without diffusion"):
        exp_euler(lambda x: -x, torch.zeros(3), dt=1.0, noise=torch.zeros(3))
    with pytest.raises(ValueError, match="noise has shape"):
        exp_euler(lambda x: -x, torch.zeros(3), dt=1.0, diffusion=torch.ones_like, noise=torch.zeros(2, 3))
