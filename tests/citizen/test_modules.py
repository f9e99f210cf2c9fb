"""What torch.nn does with any module: parametrise, prune, hooks, names, repr."""

import pytest
import torch
from composed import composed, inputs
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import neurodyn as nd
from neurodyn import units as u


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


def learned(model):
    """A model that learns one parameter, and its name as stored."""
    for name, field in model().params.items():
        if name not in model.fixed and not name.endswith("_initializer"):
            start = getattr(model(), name)
            if field.domain is None or field.domain.to_raw(start).isfinite().all():
                layer = model(learn=name)
                (stored,) = dict(layer.named_parameters())
                return layer, name, stored
    raise AssertionError


def run(layer, model):
    return nd.unroll(layer, model.input(model.steps, 3, 5), compile=False)


def test_parametrize(model):
    layer, name, stored = learned(model)
    double, _, _ = learned(model)
    with torch.no_grad():
        double.get_parameter(stored).mul_(2)
    before = run(layer, model)
    parametrize.register_parametrization(layer, stored, Twice())
    assert torch.equal(getattr(layer, name), getattr(double, name))
    ys = run(layer, model)
    assert torch.equal(ys, run(double, model))
    ys.sum().backward()
    assert layer.parametrizations[stored].original.grad is not None
    assert "(learned)" in repr(layer)
    parametrize.remove_parametrizations(layer, stored, leave_parametrized=False)
    assert torch.equal(run(layer, model), before)


def test_prune(model):
    layer, _, stored = learned(model)
    before = run(layer, model)
    prune.identity(layer, stored)
    assert set(dict(layer.named_parameters())) == {f"{stored}_orig"}
    assert torch.equal(run(layer, model), before)
    assert "(learned)" in repr(layer)
    prune.remove(layer, stored)
    assert set(dict(layer.named_parameters())) == {stored}
    assert torch.equal(run(layer, model), before)


def test_weight_norm_and_pruned_weights_in_a_network():
    xs = inputs(20, 3)
    net = composed()
    wanted = nd.unroll(net, xs, compile=False)
    parametrizations.weight_norm(net[2].connection)
    parametrizations.weight_norm(net[3].feedback)
    ys = nd.unroll(net, xs, compile=False)
    torch.testing.assert_close(ys, wanted, rtol=1e-12, atol=1e-14)
    ys.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())

    net, half = composed(), torch.arange(36).view(6, 6) % 2
    prune.custom_from_mask(net[3].feedback, "weight", half)
    with torch.no_grad():
        masked = composed()
        masked.load_state_dict({key.removesuffix("_orig"): value for key, value in net.state_dict().items()}, False)
        masked[3].feedback.weight *= half
    with pytest.warns(nd.EagerWarning, match="feedback has hooks"):
        ys = nd.unroll(net[3], xs[..., :1].expand(-1, -1, 6))
    assert ys.sum() > 0
    assert torch.equal(ys, nd.unroll(masked[3], xs[..., :1].expand(-1, -1, 6), compile=False))


def test_the_compiled_loop_with_weight_norm():
    layer = nd.Recurrent(nd.LIF(6, learn="tau"), parametrizations.weight_norm(nn.Linear(6, 6)))
    xs = 4 * torch.rand(8, 2, 6)
    with torch.no_grad():  # an EagerWarning would be an error here
        ys = nd.unroll(layer, xs)
        assert ys.sum() > 0
        assert torch.equal(ys, nd.unroll(layer, xs, compile=False))


def test_hooks(model):
    layer, seen = model(), []
    layer.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    layer.register_forward_hook(lambda module, args, y: seen.append(y))
    x = model.input(3, 5)
    y = layer(x)
    assert torch.equal(y, model()(2 * x))
    assert seen[0] is y


def test_backward_hooks_and_tensor_hooks():
    net, seen = composed(), []
    net[4].register_full_backward_hook(lambda module, inner, outer: seen.append(outer[0]))
    net[1].raw_tau.register_hook(lambda grad: 2 * grad)
    nd.reset_states(net, 2)
    torch.stack([net(x) for x in inputs(12, 2)]).sum().backward()
    assert len(seen) == 12
    other = composed()
    other.load_state_dict(net.state_dict())
    nd.unroll(other, inputs(12, 2), compile=False).sum().backward()
    assert net[1].raw_tau.grad.abs() > 0
    torch.testing.assert_close(net[1].raw_tau.grad, 2 * other[1].raw_tau.grad, rtol=1e-10, atol=1e-12)


def test_names():
    net = composed()
    names = dict(net.named_modules())
    assert {"1", "2.delay", "2.plasticity", "2.connection", "2.synapse", "2.output", "3.cell", "4.leak"} <= set(names)
    nd.reset_states(net, 2)
    assert not set(nd.get_states(net)) & set(dict(net.named_buffers()))
    assert net.get_parameter("1.raw_tau") is net[1].raw_tau
    assert {name for name, p in net.named_parameters() if not name.endswith(("weight", "bias"))} == {
        "1.raw_tau",
        "2.plasticity.raw_U",
        "2.plasticity.raw_tau_d",
        "2.synapse.raw_tau",
        "2.output.E",
        "3.cell.raw_tau",
        "3.cell.V_th",
        "4.leak.raw_tau",
    }


def test_repr_of_a_network_says_sizes_units_dt_and_what_is_learned():
    text = repr(composed())
    for part in (
        "LIF(6, R=1 GΩ, tau=5 ms (learned), V_th=1 mV, V_reset=0 mV, V_rest=0 mV, dt=1 ms)",
        "(delay): Delay(6, delay=2 ms, dt=1 ms)",
        "(plasticity): STP(6, U=0.5 (learned), tau_f=1500 ms, tau_d=200 ms (learned), dt=1 ms)",
        "(output): COBA(E=3 mV (learned))",
        "tau=values from 4 to 9 ms (learned), V_th=1 mV (learned)",
        "(leak): LeakyIntegrator(3, tau=20 ms (learned), dt=1 ms)",
    ):
        assert part in text
    with torch.no_grad():
        assert repr(nd.LIF(3, tau=4 * u.ms, learn="tau")) == repr(nd.LIF(3, tau=4 * u.ms, learn="tau"))
        assert "(learned)" in repr(nd.LIF(3, learn="tau"))
