"""Records: what unroll(record=) gives, how records print, and what they convert to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u


def network() -> nn.Sequential:
    torch.manual_seed(1)
    projection = nd.Projection(nn.Linear(4, 3), plasticity=nd.STP(4), synapse=nd.Expon(3))
    return nn.Sequential(nn.Linear(2, 4), nd.LIF(4, learn="tau"), projection, nd.LIF(3), nd.LeakyRateReadout(3, 2))


NAMES = ("1.V", "0", "3", "2.plasticity", "2", "4", "2.synapse.g")


def test_unroll_records_what_a_step_loop_sees() -> None:
    net, xs = network(), 3 * torch.rand(19, 5, 2)
    plain = nd.unroll(net, xs, compile=False)
    ys, recording = nd.unroll(net, xs, compile=False, record=NAMES)
    assert torch.equal(ys, plain)
    assert list(recording) == list(NAMES)
    nd.reset_states(net, 5)
    for t in range(19):
        current = net[0](xs[t])
        first = net[1](current)
        g = net[2](first)
        second = net[3](g)
        wanted = (net[1].V, current, second, None, g, net[4](second), net[2].synapse.g)
        for name, value in zip(NAMES, wanted, strict=True):
            if value is not None:
                assert (recording[name].values[t] - value).abs().max() < 1e-12
    assert recording["1.V"].unit == u.mV
    assert recording["2.synapse.g"].unit == u.nS
    assert recording["2.plasticity"].values.max() > 0
    assert recording.step == 19
    assert torch.equal(recording.states["1.V"], recording["1.V"].values[-1])


def test_compiled_records_and_their_gradients() -> None:
    net, xs = nn.Sequential(nn.Linear(2, 4), nd.Expon(4), nd.LIF(4)), 3 * torch.rand(16, 5, 2)
    found = []
    for compile in (False, True):
        net.zero_grad()
        ys, recording = nd.unroll(net, xs, compile=compile, record=("2.V", "1", "0"))
        (ys.sum() + sum(trace.values.square().sum() for trace in recording.values())).backward()
        found.append([ys, *(trace.values for trace in recording.values()), *(p.grad.clone() for p in net.parameters())])
    for eager, compiled in zip(*found, strict=True):
        assert eager.abs().max() > 0
        assert (eager - compiled).abs().max() <= 1e-10 * eager.abs().max()


def test_composite_modules_and_their_parts() -> None:
    layer = nd.Recurrent(nd.LIF(3), nn.Linear(3, 3, bias=False))
    xs = 2 * torch.rand(30, 3)
    ys, recording = nd.unroll(layer, xs, compile=False, record=("y", "cell.V", "cell", "feedback", ""))
    assert torch.equal(recording["cell"].values, ys)
    assert torch.equal(recording["y"].values, ys)
    assert torch.equal(recording[""].values, ys)
    assert torch.equal(recording["feedback"].values[1:], layer.feedback(ys[:-1]))
    assert recording["cell.V"].values.max() > 0


@pytest.mark.parametrize(
    ("record", "error", "words"),
    [
        ("5.V", KeyError, "there is no '5.V' to record; there are the states 1.V, 2.plasticity.u"),
        ("1.w", KeyError, "the modules 0, 0.1, 1, 2, 2.plasticity"),
        ("2.output", TypeError, "cannot record '2.output': in a step it gives Current, wanted a tensor"),
        ("0.1", KeyError, "'0.1' is inside a module without states"),
    ],
)
def test_errors(record: str, error: type[Exception], words: str) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("1", nn.Linear(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.get_submodule("1")(x)

    projection = nd.Projection(nn.Linear(4, 3), plasticity=nd.STP(4), synapse=nd.Expon(3), output=nd.CUBA())
    net = nn.Sequential(Block(), nd.LIF(4), projection, nd.LIF(3))
    with pytest.raises(error, match=words.replace("(", r"\(")):
        nd.unroll(net, torch.rand(3, 2), compile=False, record=record)
    with pytest.raises(ValueError, match=r"the final states are recording\.states"):
        nd.unroll(net, torch.rand(3, 2), compile=False, record="1", return_states=True)
