import math

import mpmath
import pytest
import torch

from neurodyn import exp_euler, phi, relax

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
