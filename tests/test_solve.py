import math

import mpmath
import pytest
import torch

from neurodyn import exp_euler, phi, relax
from neurodyn.core.solve import gate

Z = [-700, -88, -50, -10, -1, -0.5, -0.11, -0.1, -0.0999, -1e-2, -1e-4, -1e-8, -1e-30, 0, 1e-30, 1e-8, 1e-3, 0.05, 0.1]
Z += [0.1001, 0.3, 1, 5, 50]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_phi_and_its_gradient(dtype, tolerance):
    mpmath.mp.dps = 60
    z = torch.tensor(Z, dtype=dtype, requires_grad=True)
    value = phi(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    for x, v, s in zip(z.tolist(), value.tolist(), slope.tolist(), strict=True):
        m = mpmath.mpf(x)
        exact = mpmath.expm1(m) / m if m else mpmath.mpf(1)
        exact_slope = (mpmath.exp(m) * (m - 1) + 1) / m**2 if abs(m) > 1e-20 else mpmath.mpf(0.5)
        assert math.isfinite(v)
        assert abs(v / exact - 1) < tolerance, x
        assert abs(s / exact_slope - 1) < tolerance, x


def test_exp_euler_is_exact_for_affine_equations():
    x, a, b = torch.tensor([1.0, -2.0]), torch.tensor([-0.3, 0.2]), torch.tensor([0.7, 1.1])
    stepped = exp_euler(lambda x: a * x + b, x, dt=2.0)
    exact = (x + b / a) * torch.exp(2.0 * a) - b / a
    torch.testing.assert_close(stepped, exact, rtol=1e-14, atol=0)
    relaxed = relax(x, b, torch.tensor([3.0, 5.0]), dt=2.0)
    tau = torch.tensor([3.0, 5.0])
    torch.testing.assert_close(exp_euler(lambda x: (b - x) / tau, x, dt=2.0), relaxed, rtol=1e-14, atol=0)


def test_exp_euler_without_leak_has_a_finite_gradient():
    x = torch.tensor([1.0], requires_grad=True)
    rate = torch.tensor([0.0], requires_grad=True)
    y = exp_euler(lambda x: rate * x + 2.0, x, dt=0.5)
    grads = torch.autograd.grad(y.sum(), (x, rate))
    torch.testing.assert_close(y.detach(), torch.tensor([2.0]))
    assert grads[0].item() == 1.0
    # d/drate of (x e^{rate dt} + 2 dt phi(rate dt)) at 0 is dt x + 2 dt^2 / 2
    assert grads[1].item() == pytest.approx(0.5 * 1.0 + 0.25, rel=1e-14)


def test_exp_euler_derivatives():
    def step(x, a):
        return exp_euler(lambda x, a: -a * x**3 + torch.sin(x), x, a, dt=0.3)

    x, a = torch.randn(4, requires_grad=True), torch.rand(4, requires_grad=True)
    assert torch.autograd.gradcheck(step, (x, a))
    assert torch.autograd.gradgradcheck(step, (x, a))


LONG = [1e-3, 0.03, 0.2, 1.0, 1.4, 3.0, 30.0, 1e3, 1e4, 1e5]


@pytest.mark.parametrize("ratio", LONG)
def test_relax_does_not_lose_time_in_float32(ratio):
    """tau / dt: an exponential of 100 s in steps of 0.1 ms decayed as one of 98.6 s."""
    steps = max(1, min(round(ratio), 30_000))
    start = torch.linspace(0.3, 1.7, 64, dtype=torch.float32)
    x, tau = start, torch.tensor(ratio, dtype=torch.float32)
    for _ in range(steps):
        x = relax(x, 0.0, tau, 1.0)
    exact = start.double() * math.exp(-steps / tau.item())
    # of many steps each rounds by a half of the last place: a random walk
    assert ((x - exact).abs() <= 6e-8 * (3 + 3 * steps**0.5 + steps / ratio) * exact + 1e-42).all()


@pytest.mark.parametrize("ratio", LONG[:-1])
def test_relax_reaches_its_end_in_float32(ratio):
    end, tau = torch.tensor([math.exp(-1), -70.0, 1e-3], dtype=torch.float32), torch.tensor(ratio, dtype=torch.float32)
    for start in (0.0, 1.0, -65.0):
        x = torch.full_like(end, start)
        for _ in range(round(40 * max(1, min(ratio, 1000)))):
            x = relax(x, end, tau, 1.0)
        left = 65 * math.exp(-40) if ratio <= 1000 else 137 * math.exp(-4e4 / ratio)
        assert ((x - end).abs() <= 1.2e-7 * max(1, ratio) * end.abs() + left).all()
        assert torch.equal(relax(end, end, tau, 1.0), end)


def test_relax_where_the_step_is_long():
    """A large x leaves no rounding behind, and the decay is right to the last place."""
    x, tau = torch.tensor([1e8, 1.0], dtype=torch.float32), torch.tensor(0.1, dtype=torch.float32)
    torch.testing.assert_close(relax(x, 1e-3, tau, 5.0), torch.full((2,), 1e-3, dtype=torch.float32), rtol=1e-6, atol=0)
    wanted = x.double() * math.exp(-1 / 0.1)
    torch.testing.assert_close(relax(x, 0.0, tau, 1.0).double(), wanted, rtol=2e-6, atol=0)


def test_relax_derivatives():
    x, x_inf = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    tau = torch.tensor([0.3, 1.4, 50.0], requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: relax(*a, 1.0), (x, x_inf, tau))
    assert torch.autograd.gradgradcheck(lambda *a: relax(*a, 1.0), (x, x_inf, tau))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_gates_with_fast_rates(dtype):
    largest = torch.finfo(dtype).max / 4
    opening = torch.tensor([largest, 0.0, largest, 1.0], dtype=dtype, requires_grad=True)
    closing = torch.tensor([0.0, largest, largest, 1.0], dtype=dtype, requires_grad=True)
    x = torch.full((4,), 0.25, dtype=dtype, requires_grad=True)
    new = gate(x, opening, closing, 0.5)
    wanted = torch.tensor([1.0, 0.0, 0.5, 0.5 - 0.25 * math.exp(-1)], dtype=dtype)
    torch.testing.assert_close(new, wanted)
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(new.sum(), (x, opening, closing)))
