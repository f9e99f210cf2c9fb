import pytest
import torch
from torch import nn

import neurodyn as nd


def network():
    return nn.Sequential(nn.Linear(3, 4), nd.LIF(4), nd.Projection(nn.Linear(4, 2), synapse=nd.Expon(2)))


def test_get_set_reset_detach():
    net, other = network(), network()
    with pytest.raises(nd.UnsetState, match=r"LIF\(4\): 1.V has no value yet; call nd.reset_states"):
        nd.get_states(net)
    nd.reset_states(net, 5)
    assert {k: tuple(v.shape) for k, v in nd.get_states(net).items()} == {"1.V": (5, 4), "2.synapse.g": (5, 2)}
    with pytest.raises(nd.UnsetState):
        nd.get_states(other)  # only the named network is touched
    net(torch.rand(5, 3))
    assert nd.get_states(net)["2.synapse.g"].requires_grad
    nd.detach_states(net)
    assert not nd.get_states(net)["2.synapse.g"].requires_grad
    saved = {k: v.clone() for k, v in nd.get_states(net).items()}
    following = net(torch.ones(5, 3))
    nd.set_states(net, saved)
    assert torch.equal(net(torch.ones(5, 3)), following)


def test_set_states_checks_names_and_shapes():
    net = network()
    with pytest.raises(KeyError, match=r"no state '1.W'; the network has 1.V, 2.synapse.g"):
        nd.set_states(net, {"1.W": torch.zeros(4)})
    with pytest.raises(ValueError, match=r"1.V of LIF\(4\) must end in \(4,\), got shape \(5, 3\)"):
        nd.set_states(net, {"1.V": torch.zeros(5, 3)})


def test_projection_checks_its_parts():
    with pytest.raises(ValueError, match="align must be 'post' or 'pre', got 'both'"):
        nd.Projection(nn.Linear(4, 2), align="both")
    with pytest.raises(TypeError, match="output must be COBA"):
        nd.Projection(nn.Linear(4, 2), output=nn.ReLU())
    with pytest.raises(TypeError, match="synapse must be a neurodyn layer"):
        nd.Projection(nn.Linear(4, 2), synapse=nn.ReLU())


def test_align_pre_and_post_agree_for_a_linear_synapse():
    linear = nn.Linear(4, 2, bias=False)
    post = nd.Projection(linear, synapse=nd.Expon(2))
    pre = nd.Projection(linear, synapse=nd.Expon(4), align="pre")
    spikes = (torch.rand(20, 3, 4) < 0.3).double()
    torch.testing.assert_close(nd.unroll(post, spikes), nd.unroll(pre, spikes), rtol=1e-12, atol=1e-14)
