import math

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u


def response(dt, steps):
    xs = torch.zeros(steps, 1)
    xs[0] = 1
    return nd.unroll(nd.Alpha(1, tau=4 * u.ms, dt=dt * u.ms), xs, compile=False).squeeze()


def test_responds_one_step_later_and_peaks_at_one_over_e():
    """The peak is 1/e per unit jump, not 1."""
    g = response(0.001, 8000)
    assert g[0] == 0
    assert g[1] > 0
    assert abs(g.max().item() - math.exp(-1)) < 1e-4
    assert abs(g.argmax().item() * 0.001 - 4) < 0.01


@pytest.mark.parametrize("dt", [0.01, 0.5, 3.0])
def test_it_is_the_alpha_function_times_a_constant(dt):
    t, x = torch.arange(60) * dt, dt / 4
    wanted = t / 4 * torch.exp(-t / 4) * math.expm1(x) / x
    assert (response(dt, len(t)) - wanted).abs().max() < 1e-13
