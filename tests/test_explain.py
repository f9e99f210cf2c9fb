"""explain: what it says of a network."""

import math
import random

import numpy as np
import pytest
import torch
from composed import composed
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import kernel_loop


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


def test_what_it_does_with_inputs():
    net = nn.Sequential(nn.Linear(3, 4), nd.LIF(4), nn.Dropout(0.5), nn.Linear(4, 2), nd.LIF(2, V_th=5e3 * u.mV))
    net.train()
    xs = torch.rand(50, 6, 3)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    nd.unroll(net, xs[:2], compile=False)
    before = {k: v.clone() for k, v in nd.get_states(net).items()}, torch.get_rng_state()
    found = nd.explain(net, xs, loss=lambda ys: ys[-1].square().sum())
    after = nd.get_states(net), torch.get_rng_state()
    assert all(torch.equal(before[0][k], after[0][k]) for k in before[0])
    assert torch.equal(before[1], after[1])
    assert all((p.grad == 1).all() for p in net.parameters())
    assert not net[1]._forward_hooks

    torch.set_rng_state(before[1])
    net.zero_grad()
    ys, recording = nd.unroll(net, xs, record=("1", "1.V", "4.V"), compile=False)
    ys[-1].square().sum().backward()
    first, V, last = (recording[name].values for name in ("1", "1.V", "4.V"))
    text = found.activity
    assert text[:4] == [
        "0: Linear",
        f"  gradient of weight: {net[0].weight.grad.norm().item():.2g}",
        f"  gradient of bias: {net[0].bias.grad.norm().item():.2g}",
        "1: LIF(4)",
    ]
    silent = 100 * (first.sum((0, 1)) == 0).double().mean().item()
    assert text[4] == f"  {1000 * first.mean().item():.3g} Hz, {silent:.3g} % of the neurons silent"
    assert text[5] == f"  V: mean {V.mean().item():.3g} mV, at most {V.max().item():.3g} mV, threshold 1 mV"
    assert "  0 Hz, 100 % of the neurons silent" in text
    assert f"at most {last.max().item():.3g} mV, threshold 5000 mV" in "".join(text)
    assert "Activity\n  0: Linear" in str(found)


def test_the_gradient_at_spikes():
    # Without a reset, through which a spike acts on later ones.
    net, xs = nn.Sequential(nn.Linear(3, 4), nd.MorrisLecar(4), nn.Linear(4, 2, bias=False)), torch.rand(20, 6, 3)
    each = net[2].weight.detach().sum(0).norm().item()  # of the sum of the outputs, at the spikes of one step
    assert f"  gradient at its spikes: {each * (20 * 6) ** 0.5:.2g}" in nd.explain(net, xs).activity


def test_a_recurrent_layer_is_shown_once():
    net = nd.Recurrent(nd.LIF(4), nd.Projection(nn.Linear(4, 4), synapse=nd.Expon(4)))
    text = nd.explain(net, torch.rand(9, 2, 4)).activity
    assert [line for line in text if "Hz" in line] == [text[text.index("cell: LIF(4)") + 1]]


def test_a_length_is_no_input():
    with pytest.raises(TypeError, match=r"explain: xs must be inputs .* got int; a length is T=100"):
        nd.explain(nd.LIF(3), 1000)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.neuron, self.calls = nd.LIF(3), 0

    def forward(self, x):
        self.calls += 1
        return self.neuron(x)


@pytest.mark.kernels
@pytest.mark.usefixtures("no_programs", "unsaid")
def test_how_a_network_ran(monkeypatch):
    net, xs = nd.LIF(3), torch.rand(5, 2, 3)
    assert nd.explain(net).path == ["LIF(3): compiled chunks of time steps"]
    nd.unroll(net, xs)
    ran = "LIF(3): compiled chunks of 2 and 1 time steps, whose kernels are called "
    assert nd.explain(net).path == [ran + "by the loop in C++"]
    net.extra = 1
    assert nd.explain(net).path == ["LIF(3): compiled chunks of time steps"]  # it has changed

    counting = Counting()
    with pytest.warns(nd.EagerWarning):
        nd.unroll(counting, xs)
    assert nd.explain(counting).path == ["Counting: step by step in Python, because its step changes Counting"]

    def record(*given):
        raise kernel_loop.NotRecordable("no C++ here")

    monkeypatch.setattr(kernel_loop, "record", record)
    other = nd.Expon(3)
    nd.unroll(other, xs)
    assert nd.explain(other).path[0].endswith("called from Python, because no C++ here")


def test_random_numbers_go_on_as_if_nothing_had_run():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron = nd.LIF(3)

        def forward(self, x):
            return self.neuron(x * np.random.rand() * random.random() * torch.rand(()))  # noqa: NPY002

    def drawn():
        return np.random.rand(), random.random(), torch.rand(()).item()  # noqa: NPY002

    found = []
    for used in (False, True):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)  # noqa: NPY002
        if used:
            nd.explain(Noisy(), torch.rand(5, 2, 3, generator=torch.Generator()))
        found.append(drawn())
    assert found[0] == found[1]


@pytest.mark.parametrize("exact", [False, True])
def test_activity_behind_a_current(exact):
    """A watched neuron stays in one step with what gives it a current."""
    projection = nd.Projection(nn.Linear(4, 3), synapse=nd.Expon(3, exact=exact), output=nd.CUBA())
    text = str(nd.explain(nn.Sequential(projection, nd.LIF(3)), torch.rand(6, 2, 4)))
    assert "1: LIF(3)\n    " in text
    assert "% of the neurons silent" in text


def test_states_have_the_batch_of_the_inputs():
    net = nn.Sequential(nn.Linear(3, 4), nd.LIF(4), nd.Delay(4, 2 * u.ms))
    for batch in ((), (5,), (2, 3)):
        states = nd.explain(net, torch.rand(9, *batch, 3)).states
        assert states[0] == f"1.V {(*batch, 4)}: {4 * 8 * math.prod(batch)} B"
        assert states[2].startswith(f"2.past2 {(*batch, 4)}: ")
    unrolled = nn.Sequential(nd.Unroll(net), nn.Flatten(0, 1))
    assert nd.explain(unrolled, torch.rand(9, 7, 3)).states[0].startswith("0.module.1.V (7, 4): ")
    assert nd.explain(net, batch=6).states[0].startswith("1.V (6, 4): ")
