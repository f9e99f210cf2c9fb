"""Rules of pairs and triplets of spikes against NEST 3.10.0, recorded by reference/make_nest_plasticity.py.

NEST counts a dendritic delay of 1 ms, so that postsynaptic spikes reach the synapse one step later; here they are given
to the rule one step later. Between spikes there is only decay, which a step of any length does exactly, so that the
100 s of the recording are gone through from spike to spike, and its beginning, and one case whole, step by step.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

PAIRS = {"tau_plus": 16.8 * u.ms, "tau_minus": 31 * u.ms}
BUILD = {
    "additive": lambda c, p: nd.STDP(c, w_max=2.0, **PAIRS, **pair(p)),
    "multiplicative": lambda c, p: nd.STDP(c, w_max=2.0, **PAIRS, **pair(p)),
    "between": lambda c, p: nd.STDP(c, w_max=2.0, **PAIRS, **pair(p)),
    "van_rossum": lambda c, p: nd.STDP(c, w_max=2.0, **PAIRS, **pair(p)),
    "nearest": lambda c, p: nd.STDP(c, w_max=2.0, pairing="nearest", **PAIRS, **pair(p)),
    "triplet": lambda c, p: nd.TripletSTDP(
        c, w_max=2.0, **PAIRS, tau_x=p["tau_plus_triplet"] * u.ms, tau_y=125 * u.ms, A2_plus=p["Aplus"] / 2,
        A3_plus=p["Aplus_triplet"] / 2, A2_minus=p["Aminus"] / 2, A3_minus=p["Aminus_triplet"] / 2,
    ),
    "vogels": lambda c, p: inhibitory(c, p, 2.0),
    "vogels_negative": lambda c, p: inhibitory(c, p, -2.0),
}  # fmt: skip


def pair(p):
    return {"A_plus": p["lambda"], "A_minus": p["alpha"] * p["lambda"], "mu_plus": p["mu_plus"],
            "mu_minus": p["mu_minus"]}  # fmt: skip


def inhibitory(c, p, w_max):
    return nd.VogelsSprekeler(
        c, w_max=w_max, tau=p["tau"] * u.ms, eta=p["eta"] / 2, rate=p["alpha"] / 2 / p["tau"] / u.ms
    )


@pytest.fixture(scope="module")
def nest():
    with np.load(Path(__file__).parents[1] / "reference" / "nest_plasticity.npz") as file:
        return {key: file[key] for key in file.files}


def made(nest, name):
    prefix = f"p_{name}_"
    values = {key.removeprefix(prefix): float(v) for key, v in nest.items() if key.startswith(prefix)}
    start = -1.0 if name == "vogels_negative" else 1.0
    return BUILD[name](nd.OneToOne(1, weight=[start]), values)


@pytest.mark.parametrize("name", BUILD)
def test_from_spike_to_spike(nest, name):
    rule, found, before = made(nest, name), [], 0
    pre, post = set(nest["pre"].tolist()), set((nest["post"] + 1).tolist())
    with torch.no_grad():
        for step in sorted(pre | post):
            rule.dt, before = float(step - before), step
            rule(torch.tensor([float(step in pre)]), torch.tensor([float(step in post)]))
            if step in pre:
                found.append(rule.weight.item())
    np.testing.assert_allclose(found, nest[f"w_{name}"], rtol=1e-9, atol=1e-12)
    assert np.ptp(found) > 0.2


class Teacher(torch.nn.Module):
    """A rule whose both sides are given; its output are the weights."""

    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def forward(self, pre, post):
        self.rule(pre, post)
        return self.rule.weight * 1.0


def trains(nest, steps):
    xs = torch.zeros(2, steps, 1)
    for x, times in zip(xs, (nest["pre"], nest["post"] + 1), strict=True):
        x[times[times < steps]] = 1
    return tuple(xs)


@pytest.mark.parametrize("name", ["between", "triplet"])
def test_step_by_step(nest, name):
    steps = 2000
    weights = nd.unroll(Teacher(made(nest, name)), trains(nest, steps), compile=False)
    pre = nest["pre"][nest["pre"] < steps]
    np.testing.assert_allclose(weights[pre, 0], nest[f"w_{name}"][: len(pre)], rtol=1e-9)


def test_100_s_compiled(nest):
    net = Teacher(made(nest, "between"))
    weights = nd.unroll(net, trains(nest, 100_000), progress=False)
    np.testing.assert_allclose(weights[nest["pre"], 0], nest["w_between"], rtol=1e-9)
    assert net.rule.weight.item() == weights[-1, 0].item()
