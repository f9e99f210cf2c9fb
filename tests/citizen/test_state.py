"""Saving, copying and moving: state_dict, copies in mid-sequence, averages, dtypes, the meta device."""

import copy
import io
import pickle

import pytest
import torch
from composed import SIZE, composed, inputs
from torch import nn
from torch.optim import swa_utils

import neurodyn as nd
from neurodyn import units as u


def running():
    """A network in mid-sequence, its states with a live graph."""
    net = composed()
    for x in inputs(6, 4):
        net(x)
    assert any(value.requires_grad for value in nd.get_states(net).values())
    return net


def saved_and_loaded(net):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_state_dict_is_strict_for_any_batch_before_and_after_running():
    net, other = running(), composed()
    assert set(net.state_dict()) == set(other.state_dict())
    assert not {key.rpartition(".")[2] for key in net.state_dict()} & {"V", "u", "x", "g", "y", "r", "past1"}
    other.load_state_dict(net.state_dict())
    other(inputs(2)[0][None])
    other.load_state_dict(net.state_dict())
    xs = inputs(20, 3, seed=1)
    assert torch.equal(nd.unroll(other, xs, compile=False), nd.unroll(net, xs, compile=False))


def test_saved_states_continue_exactly():
    net, xs = composed(), inputs(24, 3)
    whole = nd.unroll(net, xs, compile=False)
    nd.unroll(net, xs[:10], compile=False)
    file = io.BytesIO()
    torch.save({"parameters": net.state_dict(), "states": nd.get_states(net)}, file)
    file.seek(0)
    saved = torch.load(file)  # weights only
    other = composed()
    other.load_state_dict(saved["parameters"])
    assert torch.equal(nd.unroll(other, xs[10:], states=saved["states"], compile=False), whole[10:])


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "torch.save": saved_and_loaded,
    "AveragedModel": lambda net: swa_utils.AveragedModel(net).module,
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_in_mid_sequence_hold_detached_values(copied):
    net = running()
    other = copied(net)
    mine, theirs = nd.get_states(net), nd.get_states(other)
    assert all(torch.equal(mine[key], theirs[key]) and not theirs[key].requires_grad for key in mine)
    assert all(value.data_ptr() != theirs[key].data_ptr() for key, value in mine.items())
    for x in inputs(5, 4, seed=1):
        assert torch.equal(net(x), other(x))


def test_averages_leave_the_states_alone():
    net = composed()
    average = swa_utils.AveragedModel(net, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    wanted = [p.detach().clone() for p in net.parameters()]
    for i in range(3):
        nd.unroll(net, inputs(6, 4, seed=i), compile=False).square().sum().backward()
        optimizer.step()
        before = nd.get_states(average.module) if i else {}
        average.update_parameters(net)
        if i:
            assert all(value is before[key] for key, value in nd.get_states(average.module).items())
            wanted = [0.5 * (a + p.detach()) for a, p in zip(wanted, net.parameters(), strict=True)]
        else:
            wanted = [p.detach().clone() for p in net.parameters()]
        nd.unroll(average.module, inputs(6, 2), compile=False)
    for a, b in zip(average.module.parameters(), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    fixed = [(a, b) for a, b in zip(average.module.buffers(), net.buffers(), strict=True) if not b.dim()]
    assert all(torch.equal(a, b) for a, b in fixed)


def test_states_follow_the_dtype_and_learned_parameters_keep_their_optimizer():
    net = composed(dtype=torch.float32)
    assert nd.unroll(net, inputs(6, 4, dtype=torch.float32), compile=False).dtype == torch.float32
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    net.double()
    values = [*nd.get_states(net).values(), *net.buffers()]
    assert all(value.dtype == torch.float64 for value in values if value.is_floating_point())
    before = [p.detach().clone() for p in net.parameters()]
    torch.stack([net(x) for x in inputs(12, 4)]).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    with pytest.raises(TypeError, match=r"float32 and the model torch.float64; convert"):
        net[1](torch.zeros(4, SIZE, dtype=torch.float32))


def test_default_dtype(model):
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        layer = model(learn=[name for name in model().params if name.startswith("tau") and name not in model.fixed])
        layer.reset_state(2)
        tensors = [*layer.parameters(), *layer.buffers()]
        assert {value.dtype for value in tensors} == {dtype}
        assert layer(model.input(2, 5, dtype=dtype)).dtype == dtype


def given_values(net):
    """What the recipe for a network on the meta device says."""
    net.to_empty(device="cpu")
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return net


def test_meta_device(model):
    wanted = model(dt=0.05 * u.ms)
    with torch.device("meta"):
        layer = model(dt=0.05 * u.ms)
    assert all(value.is_meta for value in [*layer.parameters(), *layer.buffers()])
    assert "no value yet" in repr(layer)
    assert layer(torch.empty(2, 5, device="meta")).is_meta
    given_values(layer)
    xs = model.input(9, 3, 5)
    assert torch.equal(nd.unroll(layer, xs, compile=False), nd.unroll(wanted, xs, compile=False))


@pytest.mark.parametrize("how", ["context", "keyword"])
def test_a_network_on_the_meta_device(how):
    wanted = composed()
    with torch.device("meta" if how == "context" else "cpu"):
        net = composed(**({"device": "meta"} if how == "keyword" else {}))
    assert all(value.is_meta for value in [*net.parameters(), *net.buffers()])
    given_values(net).load_state_dict(wanted.state_dict())
    xs = inputs(20, 3)
    ys = nd.unroll(net, xs, compile=False)
    assert ys.abs().sum() > 1
    assert torch.equal(ys, nd.unroll(wanted, xs, compile=False))


def test_values_on_the_meta_device_are_refused_and_copies_do_not_forget_silently():
    with pytest.raises(ValueError, match=r"LIF\(3\): tau is a tensor on the meta device, which holds no values"):
        nd.LIF(3, tau=torch.ones(3, device="meta") * u.ms)
    layer = nd.LIF(3, tau=nd.init.Normal(20 * u.ms, 1 * u.ms), learn="tau")
    before = layer.tau.detach().clone()
    nn.init.constant_(layer.raw_tau, 0.0)
    layer.reset_parameters()
    assert 10 < layer.tau.min() < layer.tau.max() < 30
    assert not torch.equal(layer.tau, before)  # drawn anew
    with pytest.raises(RuntimeError, match="a copy does not know how it was built"):
        copy.deepcopy(layer).reset_parameters()
