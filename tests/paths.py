"""Networks, and what `unroll` makes of them on each of its paths: for the tests of the engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u


def outcome(net: nn.Module, xs: Tensor, **options: Any) -> list[Tensor]:
    """Outputs, final states, and gradients of a loss on both."""
    xs = xs.clone().requires_grad_()
    ys, states = nd.unroll(net, xs, return_states=True, **options)
    weight = torch.linspace(-1, 1, ys.numel(), dtype=ys.dtype).view_as(ys)
    loss = (ys * weight).sum() + sum((value * value.detach().cos()).sum() for value in states.values())
    grads = torch.autograd.grad(loss, [xs, *net.parameters()], allow_unused=True)
    return [ys.detach(), *(v.detach() for v in states.values()), *(g for g in grads if g is not None)]


def assert_same(a: Iterable[Tensor], b: Iterable[Tensor], tolerance: float = 1e-10) -> None:
    """Up to rounding."""
    a, b = list(a), list(b)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        assert (x - y).abs().max() <= tolerance * y.abs().max().clamp(min=1e-3)


def assert_equal(a: Iterable[Tensor], b: Iterable[Tensor]) -> None:
    """To the last bit."""
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def assert_as_plain(net: nn.Module, xs: Tensor, tolerance: float = 1e-10, **options: Any) -> None:
    """The compiled loop gives what the plain one gives, and says nothing."""
    assert_same(outcome(net, xs, **options), outcome(net, xs, compile=False), tolerance)


def fallback(net: nn.Module, xs: Any, reason: str, **options: Any) -> Any:
    """The output of a loop that runs step by step for this reason, which it says once."""
    with pytest.warns(nd.EagerWarning, match=reason):
        ys = nd.unroll(net, xs, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nd.unroll(net, xs, **options)
    return ys


def chain(size: int = 6) -> nn.Sequential:
    """Layers of every kind in a row."""
    connection = nn.Linear(size, size, bias=False)
    nn.init.uniform_(connection.weight, 0.0, 3.0)
    return nn.Sequential(
        nn.Linear(5, size),
        nn.Sigmoid(),
        nd.Projection(
            connection,
            plasticity=nd.STP(size, learn=("U", "tau_d")),
            synapse=nd.Expon(size, learn="tau"),
            output=nd.COBA(E=3 * u.mV, learn="E"),
        ),
        nd.LIF(size, tau=nd.init.Uniform(4 * u.ms, 9 * u.ms), R=1 * u.Gohm, learn=("tau", "V_th"), reset="hard"),
        nd.LeakyRateReadout(size, 3, tau=20 * u.ms),
    )


class Composite(nn.Module):
    """A recurrent network written out by its user; the feedback is read before it is written."""

    def __init__(self, size: int = 6):
        super().__init__()
        self.input = nn.Linear(5, size)
        self.loop = nd.Recurrent(nd.LIF(size, R=1 * u.Gohm, learn="tau"), nn.Linear(size, size))
        self.readout = nd.LeakyRateReadout(size, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.loop(2 * self.input(x)))


NETS = {"chain": chain, "composite": Composite}
