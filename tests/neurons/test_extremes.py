"""Far beyond every physiological value: numbers and gradients stay finite in every dtype."""

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

pytestmark = [  # which is what these dt are for
    pytest.mark.filterwarnings("ignore:.* is too slow for .*float16"),
    pytest.mark.filterwarnings("ignore::neurodyn.TimeStepWarning"),
]
DTYPES = {
    dtype: str(dtype).removeprefix("torch.") for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
}
NEURONS = [nd.LIF, nd.IF, nd.LIFRef, nd.ALIF, nd.AdLIF, nd.BRF, nd.ExpIF, nd.AdEx, nd.QuaIF, nd.Izhikevich, nd.HH]
NEURONS += [nd.MorrisLecar, nd.GIF, nd.ThreeCompartments, nd.PinskyRinzel]
POTENTIALS = [-2000.0, -1000.0, -500.0, -250.0, -60.0, 0.0, 50.0, 250.0, 1000.0, 2000.0]
CURRENTS = [-1e6, -1e4, -250.0, 0.0, 250.0, 1e4, 1e6]


def check(neuron, x, current=lambda x: x, steps=4):
    """Values and gradients of some steps from each potential."""
    V = torch.tensor(POTENTIALS).to(x.dtype).repeat_interleave(len(x) // len(POTENTIALS)).requires_grad_()
    x = x.requires_grad_()
    neuron.reset_state()
    states = {**nd.get_states(neuron), "V": V}
    values, outs = [states[name] for name in neuron.states], []
    for _ in range(steps):
        out, *values = neuron.advance(current(x), *values)
        outs.append(out)
    for name, value in zip(neuron.states, values, strict=True):
        assert value.isfinite().all(), name
    total = sum(out.double().sum() for out in outs) + sum(value.double().sum() for value in values)
    scale = 1e-4 if x.dtype == torch.float16 else 1.0  # as of a GradScaler
    grads = torch.autograd.grad(scale * total, [V, x, *neuron.parameters()], allow_unused=True)
    assert all(grad is None or grad.isfinite().all() for grad in grads)


@pytest.mark.filterwarnings("ignore::neurodyn.TimeStepWarning")
@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.get)
@pytest.mark.parametrize("dt", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("cls", NEURONS)
def test_currents_and_potentials(cls, dt, dtype):
    neuron = cls(len(POTENTIALS) * len(CURRENTS), dt=dt * u.ms, dtype=dtype, learn=learned(cls))
    R = float(neuron.R.detach().max()) if "R" in neuron.params else 20.0  # Gohm
    bound = min(1e3, 5e4 / R) if dtype == torch.float16 else 1e6  # float16 ends at 65,504
    check(neuron, torch.tensor(CURRENTS).clamp(-bound, bound).repeat(len(POTENTIALS)).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.get)
@pytest.mark.parametrize("output", [nd.COBA, nd.CUBA, nd.MgBlock])
@pytest.mark.parametrize("cls", NEURONS)
def test_conductances_and_potentials(cls, output, dtype):
    neuron = cls(3 * len(POTENTIALS), dt=0.1 * u.ms, dtype=dtype, learn=learned(cls))
    bound = 20.0 if dtype == torch.float16 else 1e6
    values = {"E": 0 * u.mV} if output is nd.COBA else {}
    check(neuron, torch.tensor([0.0, 1.0, bound]).repeat(len(POTENTIALS)).to(dtype), output(dtype=dtype, **values))


def learned(cls):
    return [
        name
        for name, field in cls.params.items()
        if field.learnable and field.domain is not None and not name.endswith("initializer")
    ]


def test_a_hyperpolarised_axon_comes_back_to_rest():
    neuron = nd.HH(4, dt=0.05 * u.ms, dtype=torch.float32)
    zero = torch.zeros(4, dtype=torch.float32)
    neuron(zero, delta=torch.tensor([-2000.0, -500.0, 500.0, 2000.0], dtype=torch.float32))
    for _ in range(2000):
        neuron(zero)
    assert ((neuron.V + 65).abs() < 0.1).all()
