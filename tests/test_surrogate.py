import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import neurodyn as nd
from neurodyn import surrogate

ALL = [
    cls
    for cls in vars(surrogate).values()
    if isinstance(cls, type) and issubclass(cls, surrogate.Surrogate) and cls is not surrogate.Surrogate
]

# The area under the slope, where it is known in closed form.
AREAS = {
    "Sigmoid": 1.0,
    "PiecewiseQuadratic": 1.0,
    "PiecewiseExp": 1.0,
    "SoftSign": 1.0,
    "Arctan": 1.0,
    "ERF": 1.0,
    "QPseudoSpike": 1.0,
    "ReluGrad": 0.3,
    "GaussianGrad": 0.5,
    "MultiGaussianGrad": 0.5 * (1.15 - 0.3),
    "InvSquareGrad": 2 / 100,
    "SlayerGrad": 2.0,
}


def test_there_are_the_eighteen_of_the_seed():
    assert len(ALL) == 18


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_forward_is_a_step_and_backward_the_slope(cls):
    x = torch.cat([torch.linspace(-3, 3, 601), torch.tensor([0.0, -0.0, 1e9, -1e9])]).requires_grad_()
    weight = torch.rand_like(x)
    spike = cls()(x)
    assert torch.equal(spike.detach(), (x >= 0).to(x.dtype))
    (grad,) = torch.autograd.grad(spike, x, weight)
    torch.testing.assert_close(grad, weight * cls().slope(x.detach()), rtol=1e-14, atol=0)
    assert grad.abs().sum() > 0


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finite_at_the_ends(cls, value, dtype):
    x = torch.tensor([value], dtype=dtype, requires_grad=True)
    spike = cls()(x)
    (grad,) = torch.autograd.grad(spike.sum(), x)
    assert spike.item() == (value > 0)
    assert spike.dtype == dtype
    assert grad.isfinite().all()


@pytest.mark.parametrize("name", AREAS)
def test_area_under_the_slope(name):
    # x = t / (1 - t^2) brings the tails, some of which fall like 1/x^2, to a finite interval.
    t = torch.linspace(-1, 1, 2_000_003)[1:-1]
    x, weight = t / (1 - t**2), (1 + t**2) / (1 - t**2) ** 2
    area = torch.trapezoid(getattr(surrogate, name)().slope(x) * weight, t).item()
    assert area == pytest.approx(AREAS[name], rel=2e-4)


def test_formulas_of_brainstate():
    x = torch.tensor([0.5, -0.5])
    assert surrogate.PiecewiseQuadratic().slope(x).tolist() == [0.5, 0.5]
    assert surrogate.PiecewiseQuadratic(formula="brainstate").slope(x).tolist() == [0.75, 0.75]
    with pytest.raises(ValueError, match="formula must be"):
        surrogate.GaussianGrad(formula="other")
    with pytest.raises(ValueError, match="alpha must exceed 1"):
        surrogate.QPseudoSpike(alpha=1.0)


TRACE = Path(__file__).parent / "reference" / "traces" / "surrogate_grads"
CASES = json.loads(TRACE.with_suffix(".json").read_text())["options"]["surrogates"]


@pytest.mark.parametrize("case", CASES)
def test_the_reference_trace(case):
    name = case.rsplit("_", 1)[0]
    with np.load(TRACE.with_suffix(".npz")) as arrays:
        x = torch.from_numpy(arrays["x"]).requires_grad_()
        spike = getattr(surrogate, name)(**CASES[case], formula="brainstate")(x)
        (grad,) = torch.autograd.grad(spike.sum(), x)
        assert torch.equal(spike.detach(), torch.from_numpy(arrays["out_forward"]))
        torch.testing.assert_close(grad, torch.from_numpy(arrays[f"grad_{case}"]), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_forward_derivatives_do_not_need_grad_mode(reset):
    """torch.no_grad switches off backward derivatives only; forward ones lost the surrogate."""
    neuron, V = nd.LIF(3, reset=reset), torch.tensor([0.5, 0.99, 2.0])

    def step(I):
        return torch.cat(neuron.step(I, V))

    I = torch.ones(3)
    derivatives = (
        lambda: torch.func.jvp(step, (I,), (torch.ones(3),))[1],
        lambda: torch.func.jacfwd(step)(I),
        lambda: torch.func.vmap(lambda v: torch.func.jvp(step, (I,), (v,))[1])(torch.eye(3)),
        lambda: torch.func.jvp(lambda i: torch.func.vmap(step)(i.expand(2, 3)), (I,), (torch.ones(3),))[1],
        lambda: forward_by_dual_numbers(step, I),
    )
    for derivative in derivatives:
        wanted = derivative()
        with torch.no_grad():
            found = derivative()
        assert torch.equal(found, wanted)
        assert wanted[..., :3].abs().sum() > 0


def forward_by_dual_numbers(step, I):
    with torch.autograd.forward_ad.dual_level():
        out = step(torch.autograd.forward_ad.make_dual(I, torch.ones(3)))
        return torch.autograd.forward_ad.unpack_dual(out).tangent


def test_without_any_derivative_there_is_no_surrogate(monkeypatch):
    def slope(self, x):
        raise AssertionError("the surrogate was computed")

    monkeypatch.setattr(type(nd.surrogate.DEFAULT), "slope", slope)
    with torch.no_grad():
        for neuron in (nd.LIF(3), nd.LIF(3, reset="hard"), nd.ALIF(3)):
            neuron(torch.ones(3))
