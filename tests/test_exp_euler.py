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


@pytest.mark.parametrize("ratio", [0.01, 0.02, 0.1, 0.2, 0.5, 1.0])
def test_ornstein_uhlenbeck(ratio):
    r"""$dx = (\mu - x)/\tau\,dt + \sigma\,dW$ from 2: mean and variance in closed form, within 3 standard errors."""
    n, tau, mu, sigma = 100_000, 5.0, 0.5, 0.3
    dt, x = ratio * tau, torch.full((n,), 2.0)
    random = torch.Generator().manual_seed(1)
    steps = round(3 / ratio)
    for step in range(1, steps + 1):
        noise = torch.randn(n, generator=random)
        x = exp_euler(lambda x: (mu - x) / tau, x, dt=dt, diffusion=lambda x: torch.full_like(x, sigma), noise=noise)
        if step in (1, steps):
            mean = mu + (2 - mu) * math.exp(-step * ratio)
            variance = sigma**2 * tau / 2 * -math.expm1(-2 * step * ratio)
            assert abs(x.mean().item() - mean) < 3 * math.sqrt(variance / n)
            assert abs(x.var().item() - variance) < 3 * variance * math.sqrt(2 / n)


@pytest.mark.parametrize("slope", [-2.0, 0.0, 0.7])
def test_the_variance_of_a_step(slope):
    r"""$\int_0^{dt} e^{2 \lambda s} ds$, also without a leak and for what grows."""
    x, noise = torch.rand(5), torch.randn(5)
    stepped = exp_euler(lambda x: slope * x, x, dt=0.5, diffusion=lambda x: 2 * x, noise=noise)
    variance = math.expm1(slope) / (2 * slope) if slope else 0.5
    assert_close(stepped, x * math.exp(0.5 * slope) + 2 * x * math.sqrt(variance) * noise)


def test_weak_order_one():
    r"""The mean square of $dx = -x^3 dt + \sigma dW$ from 1, its limit by steps 16 times as small on the same path."""
    n, finest, end = 20_000, 256, 1.0
    increments = torch.randn(finest, n, generator=torch.Generator().manual_seed(2)) / finest**0.5
    found = {}
    for steps in (4, 8, 16, 256):
        x, dt = torch.ones(n), end / steps
        for dW in increments.view(steps, -1, n).sum(1):
            x = exp_euler(lambda x: -(x**3), x, dt=dt, diffusion=torch.ones_like, noise=dW / dt**0.5)
        found[steps] = x.square().mean().item()
    errors = [abs(found[steps] - found[256]) for steps in (4, 8, 16)]
    assert 1.5 < errors[0] / errors[1]
    assert 1.5 < errors[1] / errors[2]


def test_noise_that_is_drawn_here():
    x = torch.rand(5)
    torch.manual_seed(3)
    drawn = exp_euler(lambda x: -x, x, dt=0.5, diffusion=torch.ones_like)
    torch.manual_seed(3)
    assert_close(drawn, exp_euler(lambda x: -x, x, dt=0.5, diffusion=torch.ones_like, noise=torch.randn(5)))


def test_noise_is_checked():
    with pytest.raises(TypeError, match="noise without diffusion"):
        exp_euler(lambda x: -x, torch.zeros(3), dt=1.0, noise=torch.zeros(3))
    with pytest.raises(ValueError, match="noise has shape"):
        exp_euler(lambda x: -x, torch.zeros(3), dt=1.0, diffusion=torch.ones_like, noise=torch.zeros(2, 3))
