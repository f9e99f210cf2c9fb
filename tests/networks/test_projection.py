"""Projection and Receptor: merging, misuse, and training through a compiled loop."""

from __future__ import annotations

import pint
import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u


def test_a_receptor_is_the_sum_of_its_projections() -> None:
    a, b = nn.Linear(4, 3, bias=False), nn.Linear(5, 3, bias=False)
    receptor = nd.Receptor(nd.Expon(3), nd.COBA(E=2 * u.mV))
    apart = [nd.Projection(c, synapse=nd.Expon(3), output=nd.COBA(E=2 * u.mV)) for c in (a, b)]
    for _ in range(5):
        x, y, V = torch.rand(2, 4), torch.rand(2, 5), torch.rand(2, 3)
        merged = receptor(a(x), b(y))(V)
        assert (merged - (apart[0](x) + apart[1](y))(V)).abs().max() < 1e-13


class Feedback(nn.Module):
    """Everything in a row: delay, plasticity, sparse connection, synapse, output, neuron, and back."""

    def __init__(self, connection: nn.Module, **delay: nd.Delay):
        super().__init__()
        self.projection = nd.Projection(
            connection, plasticity=nd.STP(12, U=0.5), synapse=nd.Expon(12), output=nd.COBA(E=3 * u.mV), **delay
        )
        self.neurons = nd.LIF(12, R=1 * u.Gohm)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neurons(self.projection.read() + x)
        self.projection.write(spikes)
        return spikes


@pytest.mark.parametrize("where", ["delay", "connection"])
def test_compiled_training_is_the_eager_one(where: str) -> None:
    options = {"weight": nd.init.Uniform(0.1 * u.nS, 0.5 * u.nS), "learn": "weight"}
    if where == "delay":
        net = Feedback(nd.FixedProb(12, 12, 0.4, **options), delay=nd.Delay(12, 2 * u.ms))
    else:
        options |= {"delay": nd.init.Uniform(1.1 * u.ms, 3.9 * u.ms), "interpolation": "linear"}
        net = Feedback(nd.FixedProb(12, 12, 0.4, **options))
    x = 3 * torch.rand(21, 2, 12)
    results = []
    for compile in (True, False):
        drive = x.clone().requires_grad_()
        y = nd.unroll(net, drive, compile=compile)
        assert 0.1 < y.mean() < 0.9
        grads = torch.autograd.grad((y * torch.arange(12.0)).sum(), (drive, net.projection.connection.weight))
        results.append((y, *grads))
    for found, wanted in zip(*results, strict=True):
        assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()


def test_batches_of_any_rank_one_after_the_other() -> None:
    net = Feedback(nd.FixedProb(12, 12, 0.4, weight=0.3 * u.nS), delay=nd.Delay(12, 1 * u.ms))
    x = 3 * torch.rand(5, 2, 3, 12)
    wanted = nd.unroll(net, x, compile=False)
    for drive, found in ((x[:, 0], wanted[:, 0]), (x[:, 0, 0], wanted[:, 0, 0]), (x[:, 1, 1], wanted[:, 1, 1])):
        assert torch.equal(nd.unroll(net, drive, compile=False), found)
    assert torch.equal(nd.unroll(net, x, compile=False), wanted)


def test_a_loop_of_several_dimensions_has_the_rank_of_the_last_reset() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neurons = nd.LIF((3, 4))
            self.delay = nd.Delay((3, 4), 1 * u.ms)

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.neurons(x + self.delay.read())
            self.delay(spikes)
            return spikes

    net, x = Loop(), 3 * torch.rand(5, 2, 3, 4)
    nd.reset_states(net, 2)
    assert nd.unroll(net, x, compile=False).any()
    assert net.neurons.V.shape == (2, 3, 4)


def sparse(pre: int, post: int, weight: object = 1.0) -> nd.Sparse:
    return nd.FixedProb(pre, post, 0.5, weight=weight)


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (
            lambda: nd.Projection(sparse(4, 5), synapse=nd.Expon(4)),
            ValueError,
            r"FixedProb\(4, 5\) gives the size \(5,\) and Expon\(4\) takes \(4,\)",
        ),
        (lambda: nd.Projection(nn.Linear(4, 5), synapse=nd.Expon(4)), ValueError, "gives the size"),
        (lambda: nd.Projection(sparse(4, 5), delay=nd.Delay(5, 1 * u.ms)), ValueError, "gives the size"),
        (lambda: nd.Projection(sparse(4, 5), plasticity=nd.STP(3)), ValueError, "gives the size"),
        (lambda: nd.Projection(sparse(4, 5), synapse=nd.Expon(5), align="pre"), ValueError, "gives the size"),
        (
            lambda: nd.Projection(sparse(4, 5, 1 * u.mV), synapse=nd.Expon(5)),
            pint.DimensionalityError,
            "has a weight in mV, but Expon.* takes jumps in nS",
        ),
        (lambda: nd.Projection(sparse(4, 5, 1 * u.pA), output=nd.CUBA()), pint.DimensionalityError, "in nS"),
        (
            lambda: nd.Projection(sparse(4, 5, 1 * u.nS), synapse=nd.Expon(4), align="pre", output=nd.CUBA()),
            pint.DimensionalityError,
            "no unit",
        ),
        (lambda: nd.Projection(sparse(4, 5), align="both"), ValueError, "'post' or 'pre'"),
        (lambda: nd.Projection(sparse(4, 5)).read(), TypeError, "delay=nd.Delay"),
        (lambda: nd.Projection(sparse(4, 5), delay=nd.Delay(4, 1 * u.ms)).read(), nd.UnsetState, "reset_state"),
        (lambda: nd.Receptor(nd.Expon(3), None), TypeError, "output"),
        (lambda: nd.Receptor(None, nd.CUBA()), TypeError, "synapse"),
        (lambda: nd.Receptor(nd.Expon(3), nd.CUBA())(torch.ones(3), torch.ones(2, 3)), ValueError, "one shape"),
        (lambda: nd.Receptor(nd.Expon(3), nd.CUBA())(), ValueError, "one shape, got none"),
        (lambda: nd.LIF(4)(nd.Projection(sparse(4, 5), output=nd.CUBA())(torch.ones(4))), ValueError, "wanted"),
    ],
)
def test_errors(build, error, words) -> None:
    with pytest.raises(error, match=words):
        build()


def test_weights_that_fit() -> None:
    nd.Projection(sparse(4, 5, 1 * u.nS), synapse=nd.AMPA(4, T_dur=1 * u.ms), align="pre", output=nd.COBA(E=0 * u.mV))
    nd.Projection(sparse(4, 5, 1 * u.nS), output=nd.COBA(E=0 * u.mV))
    nd.Projection(sparse(4, 5, 1 * u.mV), plasticity=nd.STD(4))
    nd.Projection(sparse(4, 5, 1 * u.pA), delay=nd.Delay(4, 1 * u.ms))
