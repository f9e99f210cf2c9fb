"""A model whose time scale is shorter than its step says so when it is built."""

import re
import warnings

import pytest
import torch

import neurodyn as nd
from neurodyn import units as u


@pytest.mark.parametrize(
    ("build", "scale"),
    [
        (lambda dt: nd.AMPA(3, dt=dt), 0.5),
        (lambda dt: nd.GABAa(3, T_dur=torch.tensor([2.0, 0.7, 1.0]) * u.ms, dt=dt), 0.7),
        (lambda dt: nd.HH(3, dt=dt), 0.25),
        (lambda dt: nd.Expon(3, tau=0.8 * u.ms, dt=dt), 0.8),
        (lambda dt: nd.Alpha(3, tau=0.325 * u.ms, learn="tau", dt=dt, dtype=torch.float32), 0.325),
        (lambda dt: nd.DualExpon(3, tau_rise=0.3 * u.ms, dt=dt), 0.3),
    ],
)
def test_it_is_said(build, scale):
    with pytest.warns(
        nd.TimeStepWarning, match=re.escape(f"is longer than its own time scale of {scale:g} ms")
    ) as said:
        build(1.01 * scale * u.ms)
    assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(scale * u.ms)


def test_the_message():
    with pytest.warns(nd.TimeStepWarning) as said:
        nd.AMPA(10), nd.Expon(2, tau=0.5 * u.ms)
    tail = "so that it does something else than its equations; use dt=0.5 * u.ms or less"
    assert [str(w.message) for w in said] == [
        f"AMPA(10): dt=1 ms is longer than its own time scale of 0.5 ms, {tail}",
        f"Expon(2): dt=1 ms is longer than its own time scale of 0.5 ms, {tail}, or build it with exact=True",
    ]


def test_exact_synapses_and_others_have_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cls in (nd.Expon, nd.Alpha):
            assert cls(2, tau=0.1 * u.ms, exact=True).time_scale is None
        nd.LIF(2, tau=0.1 * u.ms)
        nd.Expon(2, tau=0.1 * u.ms, exact=True)
        nd.HH(2, device="meta", dt=0.1 * u.ms)


def test_a_model_of_ones_own_and_explain():
    class Fast(nd.Dynamics):
        tau = nd.param(0.5 * u.ms, domain=nd.positive)
        r = nd.state(0.0)

        @property
        def time_scale(self):
            return self.tau

        def step(self, x, r):
            return r, r + self.dt / self.tau * (x - r)

    with pytest.warns(nd.TimeStepWarning, match=r"Fast\(2\): dt=1 ms is longer"):
        layer = Fast(2)
    assert "dt=1 ms is longer than its own time scale of 0.5 ms" in str(nd.explain(layer))
    layer.tau = 3 * u.ms
    assert "longer" not in str(nd.explain(layer))
    assert "coarse" not in str(nd.explain(nd.Expon(2, tau=0.1 * u.ms, exact=True)))
