"""Steps from a thousandth to 10,000 time constants, and jumps up to a million: finite numbers and gradients."""

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u

pytestmark = pytest.mark.filterwarnings("ignore:.* is too slow for .*float16")
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def check(layer, dtype, jumps):
    for jump in jumps:
        jump = min(jump, 500.0) if dtype == torch.float16 else jump  # float16 ends at 65,504
        x = torch.full((6, 2), jump, dtype=dtype, requires_grad=True)
        ys, states = nd.unroll(layer, x, compile=False, return_states=True)
        values = [ys, *states.values()]
        assert all(value.isfinite().all() for value in values)
        scale = 1e-4 if dtype == torch.float16 else 1.0  # as of a GradScaler
        total = scale * sum(value.double().sum() for value in values)
        grads = torch.autograd.grad(total, [x, *layer.parameters()], allow_unused=True)
        assert all(grad is None or grad.isfinite().all() for grad in grads)


@pytest.mark.filterwarnings("ignore::neurodyn.TimeStepWarning")
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("dt", [1e-3, 1.0, 1e4])
def test_synapses(dt, dtype):
    options = {"dt": dt * u.ms, "dtype": dtype}
    for cls in (nd.Expon, nd.Alpha, nd.DualExpon, nd.NMDA):
        learn = [name for name in cls.params if name.startswith("tau")]
        check(cls(2, learn=learn, **options), dtype, [-1.0, 1.0, 1e6])
        if cls is not nd.NMDA:
            neuron = nd.LIF(2, R=0.1 * u.Gohm, learn="tau", **options)
            exact = nn.Sequential(cls(2, exact=True, learn=learn, **options), neuron)
            check(exact, dtype, [-1.0, 1.0, 1e6])
    for cls in (nd.AMPA, nd.GABAa):
        check(cls(2, learn=("alpha", "beta", "T"), **options), dtype, [0.0, 1.0])
