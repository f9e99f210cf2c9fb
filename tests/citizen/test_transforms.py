"""torch.utils.checkpoint and torch.func."""

import pytest
import torch
from composed import composed, inputs
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

import neurodyn as nd


def close(found, wanted, tolerance=1e-12):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def learning(model):
    names = [name for name in model().params if name.startswith("tau") and name not in model.fixed]
    return model(learn=names)


def sequence(module):
    return nd.Unroll(module, compile=False)


def test_checkpoint_around_a_block_has_exact_gradients(model):
    layer = learning(model)
    xs = model.input(8, 3, 5).requires_grad_()
    wanted = [*layer.parameters(), xs]
    direct = torch.autograd.grad(sequence(layer)(xs).square().sum(), wanted, allow_unused=True)
    for reentrant in (False, True):
        ys = checkpoint(sequence(layer), xs, use_reentrant=reentrant)
        for value in wanted:
            value.grad = None
        ys.square().sum().backward()
        for value, reference in zip(wanted, direct, strict=True):
            assert (value.grad is None) == (reference is None)
            if reference is not None:
                assert torch.equal(value.grad, reference)


def test_checkpoint_around_a_block_of_a_network():
    net, xs = composed(), inputs(20, 3)

    def block(xs):  # written out by a user
        nd.reset_states(net, 3)
        return torch.stack([net(x) for x in xs])

    direct = torch.autograd.grad(block(xs).square().sum(), list(net.parameters()))
    for checkpointed in (block, sequence(net)):
        ys = checkpoint(checkpointed, xs, use_reentrant=False)
        assert ys.abs().sum() > 1
        close(torch.autograd.grad(ys.square().sum(), list(net.parameters())), direct)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("detach", [False, True])
def test_checkpoint_around_a_step_that_changes_states_is_refused(model, reentrant, detach):
    layer, x = learning(model), model.input(3, 5).requires_grad_()
    layer.reset_state(3)
    loss = sum(checkpoint(layer, x, use_reentrant=reentrant).sum() for _ in range(2))
    if detach:
        layer.detach_state()
    with pytest.raises(RuntimeError, match=r"its states have changed since the first call, .* nd.unroll\(net, xs\)"):
        loss.backward()
    layer(x)  # still works


def test_checkpoint_around_a_pure_step_is_exact():
    net, xs = composed(), inputs(20, 3)
    wanted = torch.autograd.grad(sequence(net)(xs).square().sum(), list(net.parameters()))
    nd.reset_states(net, 3)
    states, total = nd.get_states(net), 0.0

    def step(x, states):
        states = dict(states)
        return functional_call(net, states, x), states

    for x in xs:
        y, states = checkpoint(step, x, states, use_reentrant=False)
        total = total + y.square().sum()
    close(torch.autograd.grad(total, list(net.parameters())), wanted)


def ensemble(make, xs):
    nets = [make() for _ in range(3)]
    for net in nets:
        nd.reset_states(net, *xs.shape[1:2])
    parameters, buffers = stack_module_state([sequence(net) for net in nets])
    first = sequence(nets[0])

    def run(parameters, buffers):
        return functional_call(first, (parameters, buffers), (xs,))

    found = vmap(run)(parameters, buffers)
    close(found, [nd.unroll(net, xs, compile=False) for net in nets])
    return found


def test_vmap_over_an_ensemble(model):
    values = iter((0.8, 1.0, 1.3))
    names = [name for name, field in model().params.items() if name.startswith("tau") and name not in model.fixed]

    def make():
        layer, factor = learning(model), next(values)
        for name in names:
            layer.get_parameter(f"raw_{name}").data += torch.tensor(factor).log()
        return layer

    found = ensemble(make, model.input(model.steps, 2, 5))
    if names and not model.spiking:
        assert not torch.equal(found[0], found[1])


def test_vmap_over_an_ensemble_of_networks():
    found = ensemble(composed, inputs(20, 2))
    assert not torch.equal(found[0], found[1])


def test_gradients_of_each_sample():
    net, xs = composed(), inputs(20, 4)
    parameters = {f"module.{name}": p.detach() for name, p in net.named_parameters()}

    def loss(parameters, xs):
        return functional_call(sequence(net), parameters, (xs,)).square().sum()

    nd.reset_states(net, 2)
    before = nd.get_states(net)
    found = vmap(grad(loss), in_dims=(None, 1))(parameters, xs)
    assert all(value is before[key] for key, value in nd.get_states(net).items())  # no tensor escapes
    for i in range(4):
        each = nd.unroll(net, xs[:, i], compile=False).square().sum()
        close([value[i] for value in found.values()], torch.autograd.grad(each, list(net.parameters())), 1e-10)


def test_jacobians(model):
    layer, xs = learning(model), model.input(5, 5)
    found = jacrev(sequence(layer))(xs)
    wanted = torch.autograd.functional.jacobian(sequence(layer), xs)
    assert found.abs().sum() > 0 or model.steps > 16  # too early for a spike
    close([found], [wanted])


def test_jacobian_of_a_network():
    net, xs = composed(), inputs(12)
    found = jacrev(sequence(net))(xs)
    assert found.abs().sum() > 0
    close([found], [torch.autograd.functional.jacobian(sequence(net), xs)])
