"""explain: what it says of a network."""

import torch
from composed import composed
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def test_every_model(model):
    layer = model(
        learn=next(name for name in model().params if name not in model.fixed and name.startswith("V_th"))
        if "V_th" in model().params
        else ()
    )
    text = str(nd.explain(layer, T=50, batch=(2, 3)))
    assert all(len(line) <= 80 for line in text.splitlines())
    for name, field in model().params.items():
        if not name.endswith("_initializer"):
            assert f"{name}=" in text
            assert f"{field.unit:~}" in text
    for name in model().states:
        assert f"{name} (2, 3, 5): 240 B" in text
    assert "compiled chunks" in text


def test_a_network():
    text = str(nd.explain(composed(), T=1000, batch=64))
    for part in (
        "2.plasticity: STP(6), dt = 1 ms\n    U=0.5 (learned), tau_f=1500 ms, tau_d=200 ms (learned)",
        "2.output: COBA()\n    E=3 mV (learned)",
        "3.cell.V (64, 6): 3.072 kB",
        "1000 steps: 3.264 MB in chunks of 8",
        "Linear: once, on all time steps as one batch",
        "LIF(6) + Delay(6) + STP(6): compiled chunks of time steps",
    ):
        assert part in text
    assert text.count("more than 1/5") == 1  # tau of 4 ms


class Noisy(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.lif, self.inner = nd.LIF(4, tau=10 * u.ms), inner

    def forward(self, x):
        return self.lif(self.inner(x))


def test_what_does_not_hold_and_why():
    assert "in Python, because inner draws random numbers" in str(nd.explain(Noisy(nn.Dropout(0.5))))
    assert "compiled chunks" in str(nd.explain(Noisy(nn.Dropout(0.5)).eval()))
    assert "in Python, because inner writes to its buffers" in str(nd.explain(Noisy(nn.BatchNorm1d(4))))
    hooked = nd.LIF(4)
    hooked.register_forward_hook(lambda *_: None)
    assert "in Python, because LIF has hooks" in str(nd.explain(hooked))
    lif = nd.LIF(4)
    assert "used at two places" in str(nd.explain(nn.Sequential(lif, nn.Linear(4, 4), lif)))
    assert "which ONNX does not have" in str(nd.explain(Noisy(nd.FixedProb(4, 4, 1.0, weight=1.0))))
    with torch.device("meta"):
        assert "to_empty, then reset_parameters" in str(nd.explain(nd.LIF(4)))
