"""What counts is kept in a dtype that can count, whenever the model is converted."""

import copy

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

HALVES = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])

COUNTERS = {
    "LIFRef": (lambda dtype=None: nd.LIFRef(1, tau_ref=60.3 * u.ms, dt=0.1 * u.ms, dtype=dtype), "held", 602),
    "AMPA": (lambda dtype=None: nd.AMPA(1, T_dur=60.3 * u.ms, dt=0.1 * u.ms, dtype=dtype), "pulse", 603),
    "GABAa": (lambda dtype=None: nd.GABAa(1, T_dur=60.3 * u.ms, dt=0.1 * u.ms, dtype=dtype), "pulse", 603),
}


@HALVES
@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.parametrize("compile", [False, True])
def test_steps_are_counted(name, half, compile):
    make, state, steps = COUNTERS[name]
    xs = torch.zeros(64 if compile else 500, 1, dtype=half)
    xs[0] = 100.0
    for model in (make(half), make(torch.float32).to(half), copy.deepcopy(make().to(half)).float().to(half)):
        nd.unroll(model, xs[:1], compile=False)
        start = nd.get_states(model)
        assert start[state].dtype == torch.float32
        assert start[state].item() == steps
        assert all(value.dtype == half for key, value in start.items() if key != state)
        ys = nd.unroll(model, xs[1:], states=start, compile=compile)
        assert ys.dtype == half
        assert nd.get_states(model)[state].item() == steps - len(xs) + 1
        model.to(torch.float64)
        assert all(value.dtype == torch.float64 for value in nd.get_states(model).values())


@HALVES
def test_a_state_of_ones_own_that_counts(half):
    class Clock(nd.Dynamics):
        x = nd.state(0.0)
        n = nd.state(0.0, counts=True)

        def step(self, x, _, n):
            return x, x, n + 1

    clock = Clock(2).to(half)
    for _ in range(3000):
        clock(torch.zeros(2, dtype=half))
    assert clock.n.tolist() == [3000, 3000]


def test_gradients_reach_spikes_through_a_counter_in_bfloat16():
    xs = torch.tensor([[1.0], [0.0], [0.0]])
    grads = []
    for dtype in (torch.float32, torch.bfloat16):
        model, x = nd.AMPA(1, T_dur=3 * u.ms, dtype=dtype), xs.to(dtype).requires_grad_()
        nd.unroll(model, x, compile=False).sum().backward()
        grads.append(x.grad.float())
    torch.testing.assert_close(grads[1], grads[0], rtol=0.03, atol=0.01)
    assert grads[0].abs().sum() > 0
