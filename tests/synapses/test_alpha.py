import itertools
import math

import torch

import neurodyn as nd
from neurodyn import units as u


def response(dt, steps):
    xs = torch.zeros(steps, 1)
    xs[0] = 1
    return nd.unroll(nd.Alpha(1, tau=4 * u.ms, dt=dt * u.ms), xs, compile=False).squeeze()


def test_responds_one_step_later_and_peaks_at_one_over_e():
    """The peak is 1/e per unit jump, not 1 (inventory Q30)."""
    g = response(0.001, 8000)
    assert g[0] == 0
    assert g[1] > 0
    assert abs(g.max().item() - math.exp(-1)) < 1e-4
    assert abs(g.argmax().item() * 0.001 - 4) < 0.01


def test_first_order_in_dt():
    errors = []
    for k in range(4, 9):
        dt = 2.0**-k
        t = torch.arange(int(16 / dt)) * dt
        errors.append((response(dt, len(t)) - t / 4 * torch.exp(-t / 4)).abs().max().log2().item())
    slopes = [a - b for a, b in itertools.pairwise(errors)]
    assert all(abs(slope - 1) < 0.1 for slope in slopes)
