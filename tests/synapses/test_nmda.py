import itertools

import numpy as np
import torch
from scipy.integrate import solve_ivp

import neurodyn as nd
from neurodyn import units as u

SPIKES = [0.0, 3.0, 4.0, 17.0]  # ms


def reference(t):
    """x is known exactly between spikes; g by an integrator of order 8, restarted at each spike."""
    g, found, x = 0.0, [], 0.0
    for start, end in zip(SPIKES, [*SPIKES[1:], 40.0], strict=True):
        x += 1
        at = t[(t >= start) & (t < end)]
        solution = solve_ivp(
            lambda s, g, x=x, start=start: -g / 100 + 0.5 * x * np.exp(-(s - start) / 2) * (1 - g),
            (start, end), [g], method="DOP853", rtol=1e-12, atol=1e-14, t_eval=[*at, end],
        )  # fmt: skip
        found += list(solution.y[0][:-1])
        g, x = solution.y[0][-1], x * np.exp(-(end - start) / 2)
    return torch.tensor(found)


def test_second_order_in_dt():
    errors = []
    for dt in (0.5, 0.25, 0.125, 0.0625):
        t = np.arange(0, 40, dt)
        xs = torch.zeros(len(t), 1)
        xs[[round(s / dt) for s in SPIKES]] = 1
        g = nd.unroll(nd.NMDA(1, dt=dt * u.ms), xs, compile=False).squeeze()
        errors.append((g - reference(t)).abs().max().log2().item())
    slopes = [a - b for a, b in itertools.pairwise(errors)]
    assert all(abs(slope - 2) < 0.1 for slope in slopes), errors
    assert errors[0] < np.log2(0.01)


def test_saturates_below_one():
    g = nd.unroll(nd.NMDA(3), torch.ones(500, 3), compile=False)
    assert (g < 1).all()
    assert g[-1].min() > 0.98


def test_first_response_one_step_after_the_spike():
    model = nd.NMDA(1)
    assert model(torch.ones(1)).item() == 0
    assert model(torch.zeros(1)).item() > 0


def test_gradients_of_the_step():
    model = nd.NMDA(3)
    step = lambda spike, g, x: model.step(spike, g, x)  # noqa: E731
    assert torch.autograd.gradcheck(step, tuple(torch.rand(3, requires_grad=True) for _ in range(3)))
