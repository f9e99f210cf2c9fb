"""Values that are assigned, values that are computed, and groups for optimizers."""

from __future__ import annotations

import copy
import io

import pint
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune

import neurodyn as nd
from neurodyn import units as u


def learned(**values) -> nd.LIF:
    return nd.LIF(3, tau=nd.init.Constant(10 * u.ms), learn=("tau", "V_th"), **values)


@pytest.mark.parametrize(
    "value", [33 * u.ms, 0.033 * u.s, torch.tensor(33.0), torch.full((1,), 33.0), [33, 33, 33] * u.ms]
)
@pytest.mark.parametrize("learn", ["tau", ()])
def test_a_value_is_set(value, learn) -> None:
    layer = nd.LIF(3, tau=torch.full((3,), 10.0) * u.ms, R=1 * u.Gohm, learn=learn)
    parameters = list(layer.parameters())
    optimizer = torch.optim.Adam([*layer.parameters(), nn.Parameter(torch.zeros(1))])
    x = torch.full((20, 3), 30.0)
    before = nd.unroll(layer, x, compile=False)
    layer.tau = value
    assert (layer.tau - 33).abs().max() < 1e-12
    assert [id(p) for p in layer.parameters()] == [id(p) for p in parameters]
    wanted = nd.unroll(nd.LIF(3, tau=33 * u.ms, R=1 * u.Gohm), x, compile=False)
    assert not torch.equal(before, wanted)
    assert torch.equal(nd.unroll(layer, x, compile=False), wanted)
    assert len(optimizer.param_groups[0]["params"]) == 1 + len(parameters)


def test_compiled_programs_see_it() -> None:
    x = torch.full((20, 3), 30.0)
    for layer in (learned(), nd.LIF(3)):
        nd.unroll(layer, x)
        layer.tau = 33 * u.ms
        assert torch.equal(nd.unroll(layer, x), nd.unroll(layer, x, compile=False))


def test_a_trained_value_without_a_domain_is_set_in_place() -> None:
    layer = learned()
    held = layer.V_th
    layer.V_th = 2 * u.mV
    assert layer.V_th is held
    assert held == 2
    held.data.fill_(3.0)
    assert layer.V_th == 3
    own = nn.Parameter(torch.tensor(5.0))
    layer = nd.LIF(2, tau=u.quantity(own, "ms"))
    layer.tau = 7 * u.ms
    assert layer.tau is own
    assert own == 7


@pytest.mark.parametrize("learn", ["tau", ()])
@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (-1 * u.ms, ValueError, r"LIF\(3\): tau must be positive, got -1 ms"),
        (torch.tensor(-1.0), ValueError, r"LIF\(3\): tau must be positive, got -1 ms"),
        (torch.tensor(0.0), ValueError, r"LIF\(3\): tau must be positive, got 0 ms"),
        (float("nan") * u.ms, ValueError, "tau must be finite"),
        (torch.ones(4), ValueError, r"tau has shape \(4,\), which does not broadcast to the size \(3,\)"),
        (33 * u.mV, pint.DimensionalityError, "tau, got 33 millivolt; for example tau=1.0 [*] u.ms"),
        (33.0, TypeError, "tau needs a unit"),
        (None, TypeError, "tau is required"),
    ],
)
def test_what_cannot_be_is_refused(learn, value, error, words) -> None:
    layer = nd.LIF(3, tau=10 * u.ms, learn=learn)
    with pytest.raises(error, match=words):
        layer.tau = value
    assert (layer.tau - 10).abs().max() < 1e-12


def test_what_a_learned_value_cannot_take() -> None:
    layer = nd.LIF(3, tau=10 * u.ms, learn="tau")
    for value, error, words in (
        (torch.ones(3), ValueError, r"tau is learned in the shape \(\), got \(3,\); assign a value of that shape"),
        (layer.tau * 2, TypeError, "set in place and takes no gradient"),
        (nn.Parameter(torch.ones(3)), TypeError, "trained as raw_tau, which stays the same object"),
    ):
        with pytest.raises(error, match=words):
            layer.tau = value
    stp = nd.STP(2, learn="U")
    with pytest.raises(ValueError, match=r"STP\(2\): U is learned, so it must lie strictly inside its domain"):
        stp.U = torch.tensor(1.0)
    with torch.no_grad():
        layer.tau = layer.tau * 2
    assert abs(layer.tau.item() - 20) < 1e-12


@pytest.mark.parametrize(
    "write",
    [
        lambda value: value.fill_(33.0),
        lambda value: value.data.fill_(33.0),
        lambda value: value.data.copy_(torch.tensor(33.0)),
        lambda value: value.data.mul_(2),
        lambda value: value.detach().mul_(2),
        lambda value: value.data.__setitem__(..., 33.0),
        lambda value: value.__setitem__(0, 33.0),
        lambda value: setattr(value, "data", torch.full((3,), 33.0)),
        lambda value: nn.init.constant_(value, 33.0),
        lambda value: nn.init.uniform_(value, 1.0, 33.0),
        lambda value: nn.init.trunc_normal_(value),
    ],
)
@pytest.mark.parametrize("grad", [True, False])
def test_writing_to_what_is_computed_is_refused(write, grad: bool) -> None:
    layers = {
        "tau": nd.LIF(3, tau=nd.init.Constant(10 * u.ms), learn="tau"),
        "U": nd.STP(3, U=nd.init.Constant(0.3), learn="U"),
        "delay": nd.Delay(3, torch.full((3,), 3.0) * u.ms, interpolation="linear", learn="delay"),
    }
    for name, layer in layers.items():
        before = getattr(layer, name).tolist()
        with torch.set_grad_enabled(grad), pytest.raises(RuntimeError) as raised:
            write(getattr(layer, name))
        assert f"{name} is learned: what one reads is computed from raw_{name}" in str(raised.value)
        assert f"Assign instead, layer.{name} = " in str(raised.value)
        assert getattr(layer, name).tolist() == before
        with torch.no_grad():
            write(getattr(layer, name).clone())  # a tensor of one's own


def test_what_is_computed_is_otherwise_a_tensor() -> None:
    layer = nd.LIF(3, tau=nd.init.Constant(10 * u.ms), learn="tau")
    value = layer.tau
    assert type(value * 2) is type(value.clone()) is type(torch.stack([value])) is torch.Tensor
    assert repr(value.data).startswith("tensor([10.0")
    assert torch.equal(copy.deepcopy(value.data), value)
    file = io.BytesIO()
    torch.save(value.data, file)
    file.seek(0)
    assert type(torch.load(file)) is torch.Tensor
    (value.sum() / 10).backward()
    assert torch.allclose(layer.raw_tau.grad, torch.ones(3))  # tau d/dtau
    with torch.no_grad():
        layer.tau += 5
        layer.tau *= 2
    assert torch.allclose(layer.tau, torch.full((3,), 30.0))
    fixed = nd.LIF(3)
    fixed.tau.data.fill_(33.0)
    assert fixed.tau == 33


def test_an_amplitude_that_follows_cannot_be_set() -> None:
    with pytest.raises(ValueError, match=r"DualExpon\(3\): A follows tau_rise and tau_decay"):
        nd.DualExpon(3).A = 2.0
    synapse = nd.DualExpon(3, A=1.0)
    synapse.A = 2.0
    assert synapse.A == 2


@pytest.mark.parametrize("one", ["tau", ()])
@pytest.mark.parametrize("other", ["tau", ()])
@pytest.mark.parametrize("assign", [False, True])
def test_files_of_fixed_and_learned_layers_load_into_each_other(one, other, assign: bool) -> None:
    saved, loaded = nd.LIF(3, tau=33 * u.ms, learn=one), nd.LIF(3, learn=other)
    loaded.load_state_dict(saved.state_dict(), assign=assign)
    assert (loaded.tau - 33).abs().max() < 1e-12
    assert [name for name, _ in loaded.named_parameters()] == [f"raw_{name}" for name in ([other] if other else [])]


def test_parametrised_and_pruned_values() -> None:
    class Shifted(nn.Module):
        def forward(self, x):
            return x + 1

        def right_inverse(self, y):
            return y - 1

    layer = learned()
    parametrize.register_parametrization(layer, "raw_tau", Shifted())
    layer.tau = 33 * u.ms
    assert (layer.tau - 33).abs().max() < 1e-12
    layer = learned()
    prune.identity(layer, "raw_tau")
    with pytest.raises(RuntimeError, match="raw_tau is itself computed"):
        layer.tau = 33 * u.ms


def test_groups_of_parameters() -> None:
    shared = nd.LIF(4, learn=("tau", "V_th"))
    net = nn.Sequential(
        nn.Linear(3, 4),
        shared,
        nd.FixedProb(4, 4, 1.0, weight=0.5, delay=2.5 * u.ms, interpolation="linear", learn=("weight", "delay")),
        nn.Linear(4, 4, bias=False),
        shared,
        nd.GRUCell(4, 4),
    )
    decayed, physical = nd.parameter_groups(net, weight_decay=0.1, lr=0.5)
    names = {id(value): name for name, value in net.named_parameters()}
    assert [names[id(p)] for p in physical["params"]] == ["1.raw_tau", "1.V_th", "2.delays.raw_delay"]
    assert len(decayed["params"]) + 3 == len(names)
    assert decayed["weight_decay"] == 0.1
    assert "lr" not in decayed
    assert physical["weight_decay"] == 0.0
    assert physical["lr"] == 0.5
    tau = shared.tau.detach().clone()
    optimizer = torch.optim.AdamW(nd.parameter_groups(net, weight_decay=0.5), lr=0.1)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.equal(shared.tau.detach(), tau)
    assert nd.parameter_groups(nn.Linear(2, 2))
    assert len(nd.parameter_groups(nn.Linear(2, 2))) == 1
    with pytest.raises(TypeError, match="params"):
        nd.parameter_groups(net, params=[])
