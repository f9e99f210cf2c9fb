"""One compiled program with every synapse, plasticity and encoder in it, against the eager loop."""

import torch
from torch import nn
from torch.testing import assert_close

import neurodyn as nd
from neurodyn import units as u


class Everything(nn.Module):
    def __init__(self, size):
        super().__init__()
        learn = {"learn": ("tau_rise", "tau_decay")}
        linear = [nd.DualExpon(size, **learn), nd.Alpha(size, learn="tau")]
        self.synapses = nn.ModuleList([*linear, nd.NMDA(size, **learn)])
        self.receptors = nn.ModuleList([nd.AMPA(size, T_dur=2.5 * u.ms, learn=("alpha", "beta", "T")), nd.GABAa(size)])
        self.stp, self.delta = nd.STP(size), nd.DeltaEncoder(size)
        self.block, self.readout = nd.MgBlock(learn="alpha"), nd.LeakySpikeReadout(size, 3)

    def forward(self, spikes):
        release = self.stp(spikes)
        g = sum(syn(release) for syn in self.synapses) + sum(syn(spikes) for syn in self.receptors)
        current = (self.block(g) + self.delta(0.3 * g))(torch.full_like(g, -40.0))
        return current, self.readout(current)


def test_compiled_equals_eager_in_values_and_gradients():
    net, results = Everything(6), []
    spikes = (torch.rand(21, 4, 6) < 0.3).double()
    weight = torch.randn(21, 4, 6)
    for compile in (False, True):
        xs = spikes.clone().requires_grad_()
        current, out = nd.unroll(net, xs, compile=compile)
        grads = torch.autograd.grad((current * weight).sum() + out.sum(), [xs, *net.parameters()])
        results.append([current.detach(), out.detach(), *grads])
    assert results[0][1].sum() > 0
    for eager, compiled in zip(*results, strict=True):
        assert eager.abs().sum() > 0
        assert_close(compiled, eager, rtol=1e-10, atol=1e-12)
