"""`VoltageSTDP` against NEST 3.10.0's `clopath_synapse`, recorded by reference/make_nest_clopath.py.

NEST reads the potential later by the delay of the synapse, all of it dendritic; here V is given that much later. NEST
also delays both traces of the potential, by ``delay_u_bars``, which the paper does not; a rule of five lines has it.
Where V is held within steps the rules are the same. Where it moves, NEST solves its traces along with the neuron.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

STEPS, FILE = 3_000, Path(__file__).parents[1] / "reference" / "nest_clopath.npz"


class Late(nd.VoltageSTDP):
    """The traces of the potential follow `late`, what the potential was some time ago."""

    def change(self, pre, post, weight, x, u_minus, u_plus, m, *, V, late):
        weight, x, *_ = super().change(pre, post, weight, x, u_minus, u_plus, m, V=V)
        low = nd.relax(u_minus, late, self.tau_minus, self.dt)
        return weight, x, low, nd.relax(u_plus, late, self.tau_plus, self.dt), m


@pytest.fixture(scope="module")
def nest():
    with np.load(FILE) as file:
        return dict(file)


def delayed(V, steps):
    return torch.cat((V[:1].expand(steps, *V.shape[1:]), V[: len(V) - steps]))


def weights(pre, V, w_max, A_LTD, A_LTP, dt=0.1, delay=1, late=0):
    """After the change by each presynaptic spike, as NEST reports them."""
    pre, V = set(pre.tolist()), delayed(torch.cat((V[:1], V)).unsqueeze(1), delay)  # from step 0 on
    connection = nd.OneToOne(1, weight=[w_max / 2])
    values = {"A_LTD": A_LTD / w_max / u.mV, "A_LTP": A_LTP / w_max / u.mV**2, "dt": dt * u.ms}
    rule = Late(connection, w_max=w_max, **values)
    rule.reset_state()
    spike, found = (torch.zeros(1), torch.ones(1)), []
    states = [getattr(rule, name) for name in ("weight", "x", "u_minus", "u_plus", "m")]
    for step, (v, then) in enumerate(zip(V, delayed(V, late), strict=True)):
        states = rule.change(spike[step in pre], spike[0], *states, V=v, late=then)
        if step in pre:
            found.append(states[0].item())
    return np.array(found)


@pytest.mark.parametrize("name", ["plain", "dendrite", "late", "bounds"])
def test_held_potential(nest, name):
    case = {key: nest[f"held_{name}_{key}"] for key in ("step", "V", "w", "delay", "delay_u_bars", "A_LTD", "A_LTP")}
    V = torch.as_tensor(case["V"]).repeat_interleave(torch.as_tensor(np.diff(case["step"], append=20_001)))[:STEPS]
    late, delay = round(float(case["delay_u_bars"]) / 0.1), round(float(case["delay"]) / 0.1)
    amplitudes = float(case["A_LTD"]), float(case["A_LTP"])
    pre = nest["held_pre"][nest["held_pre"] <= STEPS]
    found, wanted = weights(pre, V, 2e-3, *amplitudes, delay=delay, late=late), case["w"][: len(pre)]
    print(name, np.abs(found / wanted - 1).max())
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-14)
    assert len(pre) > 15
    assert np.ptp(wanted) > 3e-5


@pytest.mark.parametrize("name", ["growth", "shrink", "growth_late"])
def test_moving_potential(nest, name):
    errors = []
    for dt in (0.2, 0.1):
        case = {key: nest[f"spiking_{name}_{dt}_{key}"] for key in ("V", "pre", "w")}
        late = round(5 / dt) if name == "growth_late" else 0
        found = weights(case["pre"], torch.as_tensor(case["V"]).double(), 2.0, 14e-5, 8e-5, dt, late=late)
        errors.append(np.abs(found - case["w"]).max() / np.ptp(case["w"]))
        print(name, dt, found[-1], case["w"][-1], errors[-1])
    assert errors[0] < 0.02
    assert errors[1] < 0.6 * errors[0]
