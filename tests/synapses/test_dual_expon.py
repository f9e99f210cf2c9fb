import math

import pint
import pytest
import torch

import neurodyn as nd
from neurodyn import units as u


def impulse(model, steps, jump=1.0):
    xs = torch.zeros(steps, *model.size)
    xs[0] = jump
    return nd.unroll(model, xs, compile=False)


@pytest.mark.parametrize(("rise", "decay"), [(1.0, 10.0), (0.2, 3.0), (9.0, 10.0), (10.0, 1.0), (5.0, 5.0001)])
def test_peak_is_one_at_the_analytic_time(rise, decay):
    peak = rise * decay / (decay - rise) * math.log(decay / rise)
    syn = nd.DualExpon(1, tau_rise=rise * u.ms, tau_decay=decay * u.ms, dt=peak / 64 * u.ms)
    g = impulse(syn, 200).squeeze()
    assert g.argmax() == 64
    assert abs(g.max().item() - 1) < 1e-10
    t = torch.arange(200) * syn.dt
    exact = (torch.exp(-t / decay) - torch.exp(-t / rise)) * syn.A
    torch.testing.assert_close(g, exact.expand_as(g), rtol=1e-9, atol=1e-9)


def test_nearly_equal_time_constants_give_the_alpha_function():
    syn = nd.DualExpon(1, tau_rise=5 * u.ms, tau_decay=5.0001 * u.ms, dt=0.1 * u.ms)
    t = torch.arange(300) * 0.1
    torch.testing.assert_close(impulse(syn, 300).squeeze(), t / 5 * torch.exp(1 - t / 5), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("dtype", "decay"), [(torch.float64, 5.0), (torch.float64, 5 + 1e-8), (torch.float32, 5.001)])
@pytest.mark.parametrize("given", [{}, {"A": 2.0}])
def test_equal_time_constants_name_alpha(dtype, decay, given):
    with pytest.raises(ValueError, match=r"DualExpon\(3\): tau_rise and tau_decay must differ.*Alpha"):
        nd.DualExpon(3, tau_rise=5 * u.ms, tau_decay=decay * u.ms, dtype=dtype, **given)


def test_both_states_get_the_jump():
    """A jump through a projection once reached only the rise, and the conductance was negative."""
    projection = nd.Projection(torch.nn.Linear(2, 3, bias=False), synapse=nd.DualExpon(3))
    torch.nn.init.constant_(projection.connection.weight, 0.5)
    g = nd.unroll(projection, torch.ones(20, 2), compile=False)
    assert (g[1:] > 0).all()
    assert (projection.synapse.g_decay > projection.synapse.g_rise).all()


def test_output_is_a_conductance_that_an_output_takes():
    """The factor A is a plain number, so the peak is 1 nS per 1 nS, and COBA takes it."""
    syn = nd.DualExpon(1, dt=0.1 * u.ms)
    assert 0.99 < impulse(syn, 100).max() < 1
    with pytest.raises(pint.DimensionalityError, match="DualExpon"):
        nd.DualExpon(1, A=1 * u.ms)
    current = nd.COBA(E=0 * u.mV)(syn(torch.zeros(1)))
    assert current(torch.tensor([-60.0])).shape == (1,)


def test_amplitude_given_normalised_and_learned():
    assert nd.DualExpon(4, A=2.0).A == 2
    assert "A" not in nd.DualExpon(4).state_dict()
    learned = nd.DualExpon(4, learn=("tau_rise", "tau_decay"))
    impulse(learned, 30).sum().backward()
    assert learned.raw_tau_rise.grad.abs() > 0
    with torch.no_grad():
        learned.raw_tau_decay.add_(math.log(2))  # 20 ms: A follows
    assert abs(impulse(learned, 100).max().item() - 1) < 1e-2
    free = nd.DualExpon(4, learn="A")
    assert torch.equal(free.A, nd.DualExpon(4).A)
    assert [name for name, _ in free.named_parameters()] == ["A"]
    impulse(free, 30).sum().backward()
    assert free.A.grad.abs() > 0


def test_gradients_of_the_step():
    syn = nd.DualExpon(3, learn=("tau_rise", "tau_decay"))
    inputs = [torch.rand(3, requires_grad=True) for _ in range(3)]
    raw = [p.detach().clone().requires_grad_() for p in syn.parameters()]

    def step(*tensors):
        values = dict(zip(["raw_tau_decay", "raw_tau_rise"], tensors[3:], strict=True))
        nd.set_states(syn, {"g_rise": tensors[1], "g_decay": tensors[2]})
        return torch.func.functional_call(syn, values, tensors[0])

    assert torch.autograd.gradcheck(step, (*inputs, *raw))
