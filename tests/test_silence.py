"""In training, a layer that never spikes and passes no gradient is said, once."""

import copy
import warnings

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.core import silence

#: No gradient 1 mV away from the threshold, nor farther.
WINDOW = {"R": 1 * u.Gohm, "surrogate": nd.surrogate.ReluGrad()}
DEAD = WINDOW | {"V_th": 50 * u.mV, "V_reset": 49 * u.mV}


def train(net, xs, calls=12, loss=torch.sum, **options) -> list[warnings.WarningMessage]:
    """The warnings that came."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(calls):
            found = loss(nd.unroll(net, xs, **options))
            if found.requires_grad:
                found.backward()
    return [one for one in said if one.category is nd.SilenceWarning]


def two(**values) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nd.LIF(4), nn.Linear(4, 4), nd.LIF(4, **values))


@pytest.mark.parametrize("compile", [False, True])
def test_it_names_the_layer_and_its_potential(compile: bool):
    net, xs = two(**DEAD), torch.rand(12, 2, 3)
    assert not train(net, xs, silence.CALLS, compile=compile)
    (said,) = train(net, xs, compile=compile)
    text = str(said.message)
    V = net[3].V.max().item()
    assert f"LIF(4) '3' sent no spike in the first {silence.CALLS} training calls" in text
    assert f"is at most {V:g} mV and its threshold 50 mV" in text
    assert "nd.scale_weights" in text
    assert said.filename == __file__
    assert not train(net, xs, compile=compile)


def test_a_recurrent_layer_and_one_behind_a_projection():
    net = nn.Sequential(nn.Linear(3, 4), nd.Recurrent(nd.LIF(4, **DEAD), nn.Linear(4, 4)))
    (said,) = train(net, torch.rand(9, 2, 3), compile=False)
    assert "LIF(4) '1.cell' sent" in str(said.message)
    net = nn.Sequential(nn.Linear(3, 4), nd.Projection(nn.Linear(4, 4), synapse=nd.Expon(4)), nd.LIF(4, **DEAD))
    (said,) = train(net, torch.rand(9, 2, 3), compile=False)
    assert "LIF(4) '2' sent" in str(said.message)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: two(), {}),
        (lambda: two(**(DEAD | {"surrogate": nd.surrogate.DEFAULT})), {}),  # silent, and it learns
        (lambda: two(**DEAD), {"loss": lambda ys: 0 * ys.sum()}),  # no gradient comes in
        (lambda: two(**DEAD).eval(), {}),
        (lambda: two(**DEAD).requires_grad_(False), {}),
        (lambda: nd.LIF(3, **DEAD, learn="tau"), {}),  # nothing before it
        (lambda: nn.Sequential(nn.Linear(3, 4), nd.LIF(4, **DEAD), nd.Expon(4)), {}),
    ],
)
def test_it_does_not_cry_wolf(make, options: dict):
    assert not train(make(), torch.rand(12, 2, 3), 30, compile=False, **options)


def test_a_layer_that_wakes_in_time_is_not_said():
    net, xs = two(**DEAD), torch.rand(12, 2, 3)
    assert not train(net, xs, silence.CALLS - 1, compile=False)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        net[2].bias += 100
    assert not train(net, xs, 30, compile=False)
    assert not train(twin, xs, silence.CALLS, compile=False)  # a copy begins anew


def test_without_gradients_it_looks_at_nothing():
    net, xs = two(**DEAD), torch.rand(12, 2, 3)
    with torch.no_grad():
        assert not train(net, xs, 30, compile=False)
    assert not any(layer in silence._looks for layer in net)
    nd.unroll(net, xs, compile=False)  # and no backward pass
    assert not train(net, xs, 30, compile=False, loss=lambda ys: ys.detach().sum())
    assert silence._looks[net[3]] is None


def test_the_gradients_are_those_without_it(monkeypatch: pytest.MonkeyPatch):
    net, xs, found = two(), torch.rand(12, 2, 3), []
    for follow in (silence._follow, lambda *_: None):
        monkeypatch.setattr(silence, "_follow", follow)
        net.zero_grad()
        nd.unroll(net, xs, compile=False).square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
