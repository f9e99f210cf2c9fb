"""Parameters that differ between the samples of a batch: one batch is as many single runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from catalogue import Model
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

TAU = torch.tensor([6.0, 9.0, 15.0], dtype=torch.float64)
G = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
E = torch.tensor([3.0, 5.0, 2.0], dtype=torch.float64)


class Net(nn.Module):
    """A recurrent population with a synapse, an output and a strength of its feedback that are swept."""

    def __init__(self, tau: Tensor, g: Tensor, E: Tensor):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.N = nd.LIFRef(12, tau=tau * u.ms, tau_ref=3 * u.ms, R=1 * u.Gohm)
        self.back = nd.Projection(
            nd.FixedNum(12, 12, 4, weight=0.05 * u.nS, generator=random, delay=2 * u.ms),
            synapse=nd.Expon(12, tau=tau / 3 * u.ms),
            output=nd.COBA(E=E * u.mV),
        )
        self.register_buffer("g", g)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.N(self.back.read() + x)
        self.back.write(self.g * spikes)
        return spikes


def column(values: Tensor) -> Tensor:
    return values[:, None]


@pytest.mark.parametrize("compile", [False, True])
def test_a_batch_is_as_many_runs(compile: bool) -> None:
    x = torch.linspace(0.9, 2, 12)
    batch = Net(column(TAU), column(G), column(E))
    found = nd.simulate(batch, 60 * u.ms, nd.constant(x.expand(3, 12)), ["spikes", "N.V"], batch=3, compile=compile)
    counts = []
    for k in range(3):
        one = Net(TAU[k], G[k], E[k])
        wanted = nd.simulate(one, 60 * u.ms, nd.constant(x), ["spikes", "N.V"], compile=False)
        torch.testing.assert_close(found["N.V"].values[:, k], wanted["N.V"].values, rtol=1e-10, atol=1e-12)
        assert torch.equal(found["spikes"].sample(k).to_tensor(), wanted["spikes"].to_tensor())
        counts.append(len(wanted["spikes"]))
    assert len(set(counts)) == 3


def test_every_model_and_parameter(model: Model) -> None:
    """Each parameter in turn takes three values, which differ by some percent."""
    base, x = model(4), model.input(8, 3, 4)
    for name, field in base.params.items():
        value = getattr(base, name)
        if name in model.fixed or not bool((value != 0).any()):
            continue
        three = value * torch.tensor([1.0, 1.01, 1.03]).view(3, *[1] * max(1, value.dim()))
        given: dict[str, Any] = {name: u.quantity(three, field.unit)}
        found, after = nd.unroll(model(4, **given), x, return_states=True, compile=False)
        for k in range(3):
            given = {name: u.quantity(three[k].reshape(value.shape), field.unit)}
            wanted, single = nd.unroll(model(4, **given), x[:, k], return_states=True, compile=False)
            torch.testing.assert_close(found[:, k], wanted, rtol=1e-12, atol=1e-12, msg=name)
            for state, held in single.items():
                torch.testing.assert_close(after[state][k], held, rtol=1e-12, atol=1e-12, msg=f"{name} {state}")


def test_they_can_be_learned_and_are_saved() -> None:
    x = torch.rand(20, 3, 5)
    net = nd.LIF(5, tau=column(TAU) * u.ms, R=1 * u.Gohm, learn="tau")
    _, recording = nd.unroll(net, x, record="V", compile=False)
    recording["V"].values.square().sum().backward()
    for k in range(3):
        one = nd.LIF(5, tau=TAU[k] * u.ms, R=1 * u.Gohm, learn="tau")
        nd.unroll(one, x[:, k], record="V", compile=False)[1]["V"].values.square().sum().backward()
        torch.testing.assert_close(net.raw_tau.grad[k, 0], one.raw_tau.grad)
    other = nd.LIF(5, R=1 * u.Gohm, learn="tau")
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other.tau, column(TAU))
    net.tau = column(2 * TAU) * u.ms
    torch.testing.assert_close(net.tau, column(2 * TAU))


def test_another_batch_is_refused() -> None:
    net = nn.Sequential(nd.LIF(5, tau=column(TAU) * u.ms))
    for batch in ((), (2,), (3, 2)):
        with pytest.raises(ValueError, match=r"LIF\(5\): R has shape \(3, 1\), .* batch is .*reset_states\(net, 3\)"):
            nd.simulate(net, 5 * u.ms, 1.0, batch=batch, compile=False)
    nd.reset_states(net, 2, 3)  # the last dimensions of the batch
    with pytest.raises(ValueError, match="does not broadcast to"):
        nd.LIF(5, tau=torch.ones(3, 4) * u.ms)
    with pytest.raises(ValueError, match="does not broadcast to"):
        nd.Delay(5, torch.ones(3, 1) * u.ms)


def projected(connection: str, align: Literal["post", "pre"], strength: Any) -> nd.Projection:
    random = torch.Generator().manual_seed(1)
    post, unit = align == "post", u.nS if align == "post" else u.dimensionless
    some: dict[str, Any] = {"weight": nd.init.Normal(0.8 * unit, 0.1 * unit), "generator": random}
    made: dict[str, Callable[[], nn.Module]] = {
        "sparse": lambda: nd.FixedNum(8, 6, 3, **some),
        "delayed": lambda: nd.FixedNum(8, 6, 3, delay=nd.init.Uniform(1 * u.ms, 4 * u.ms), **some),
        "dense": lambda: nd.AllToAll(8, 6, weight=0.4 * torch.rand(6, 8, generator=random) * unit),
        "linear": lambda: nn.Linear(8, 6, bias=False),
        "learning": lambda: nd.STDP(nd.AllToAll(8, 6, weight=0.1 * u.nS), w_max=1 * u.nS),
    }
    torch.manual_seed(2)
    synapse = nd.Expon(6 if post else 8, tau=5 * u.ms)
    return nd.Projection(
        made[connection](), synapse=synapse, align=align, output=nd.COBA(E=60 * u.mV), strength=strength
    )


@pytest.mark.parametrize(
    ("connection", "align"), [("sparse", "post"), ("delayed", "post"), ("linear", "post"), ("dense", "pre")]
)
def test_strengths_of_a_projection(connection: str, align: Literal["post", "pre"]) -> None:
    """A batch with a strength for each sample, step by step and in chunks, is as many runs with single strengths."""
    xs = (torch.rand(40, 8) < 0.2).double()
    batch = nn.Sequential(projected(connection, align, column(G)), nd.LIF(6, R=1 * u.Gohm))
    for options in ({"compile": False}, {}):
        found, after = nd.unroll(batch, xs[:, None].expand(-1, 3, -1), return_states=True, **options)
        for k in range(3):
            one = nn.Sequential(projected(connection, align, G[k]), nd.LIF(6, R=1 * u.Gohm))
            wanted, single = nd.unroll(one, xs, return_states=True, compile=False)
            torch.testing.assert_close(found[:, k], wanted, rtol=0, atol=0)
            torch.testing.assert_close(after["1.V"][k], single["1.V"], rtol=1e-12, atol=1e-14)
        assert not after["1.V"].allclose(after["1.V"][:1])


def test_a_strength_is_set_learned_and_checked() -> None:
    projection, x = projected("dense", "post", nn.Parameter(column(G).clone())), torch.rand(3, 8)
    wanted = [projected("dense", "post", g)(x[k])(torch.zeros(6)) for k, g in enumerate(G)]
    I = projection(x)(torch.zeros(3, 6))
    torch.testing.assert_close(I, torch.stack(wanted))
    I.sum().backward()
    ones = projected("dense", "post", 1.0)
    torch.testing.assert_close(projection.factor.factor.grad[:, 0], ones(x)(torch.zeros(3, 6)).sum(-1))
    ones.strength = 0.5
    assert ones.strength == 0.5
    nd.reset_states(ones, 3)
    wanted = projected("dense", "post", None)(x)(torch.zeros(3, 6)) / 2
    torch.testing.assert_close(ones(x)(torch.zeros(3, 6)), wanted)
    other = projected("dense", "post", 1.0)
    other.load_state_dict(projection.state_dict())
    torch.testing.assert_close(other.strength, column(G))
    with pytest.raises(ValueError, match=r"strength has shape \(3, 1\), .* \(6,\): .*nd\.reset_states\(net, 3\)"):
        projected("dense", "post", column(G))(x[0])
    with pytest.raises(TypeError, match=r"build it with strength=1\.0"):
        projected("dense", "post", None).strength = 2.0
    for build in (
        lambda: nd.AllToAll(8, 6, weight=torch.ones(3, 6, 8)),
        lambda: nd.OneToOne(8, weight=torch.ones(3, 8)),
        lambda: nd.Sparse(([0, 1], [1, 1]), (8, 6), weight=torch.ones(3, 1)),
    ):
        with pytest.raises(ValueError, match=r"for each sample of a batch .*nd\.Projection\(\.\.\., strength="):
            build()


def test_a_projection_that_learns_keeps_its_weights_whatever_its_strength() -> None:
    weak, strong = projected("learning", "post", 0.1), projected("learning", "post", 1.0)
    x = torch.ones(8)
    for projection in (weak, strong):
        projection(x)
        projection.learn(torch.ones(6))
    torch.testing.assert_close(weak.connection.weight, strong.connection.weight)
