import pytest
import torch

import neurodyn as nd


def test_mask_is_kept_over_time_and_drawn_at_reset():
    dropout = nd.FixedDropout(200, prob=0.3)
    ys = nd.unroll(dropout, torch.ones(10, 4, 200), compile=False)
    assert torch.equal(ys, ys[:1].expand_as(ys))
    assert sorted(ys.unique().tolist()) == [0.0, 1 / 0.7]
    assert not torch.equal(ys[0, 0], ys[0, 1])  # independent over the batch
    again = nd.unroll(dropout, torch.ones(10, 4, 200), compile=False)
    assert not torch.equal(ys, again)
    torch.manual_seed(4)
    nd.reset_states(dropout, 4)
    first = dropout.mask
    torch.manual_seed(4)
    nd.reset_states(dropout, 4)
    assert torch.equal(first, dropout.mask)


def test_prob_is_the_probability_to_drop():
    dropout = nd.FixedDropout(100_000, prob=0.2)
    dropout.reset_state()
    dropped = (dropout.mask == 0).sum().item()
    assert abs(dropped - 20_000) < 4 * (100_000 * 0.2 * 0.8) ** 0.5
    assert abs(dropout.mask.mean().item() - 1) < 0.01
    assert nd.FixedDropout(5, prob=0)(torch.ones(5)).tolist() == 5 * [1.0]
    assert nd.FixedDropout(5, prob=1)(torch.ones(5)).tolist() == 5 * [0.0]
    with pytest.raises(ValueError, match="probability to drop"):
        nd.FixedDropout(5, prob=1.2)


def test_the_initial_mask_is_a_factor():
    factor = torch.tensor([1.0, 2.0])
    dropout = nd.FixedDropout(2, prob=0, mask_initializer=factor)
    assert torch.equal(dropout(torch.ones(3, 2)), factor.expand(3, 2))


def test_eval_passes_the_input():
    dropout, x = nd.FixedDropout(50).eval(), torch.rand(6, 2, 50)
    assert torch.equal(nd.unroll(dropout, x, compile=False), x)


def test_compiled_and_eager_use_the_same_mask():
    net, x = torch.nn.Sequential(nd.FixedDropout(20), nd.LIF(20)), 3 * torch.rand(12, 4, 20)
    torch.manual_seed(1)
    eager = nd.unroll(net, x, compile=False)
    torch.manual_seed(1)
    assert torch.equal(nd.unroll(net, x), eager)
    assert torch.equal(nd.unroll(net.eval(), x), nd.unroll(net[1], x, compile=False))


def test_gradient_is_the_mask():
    dropout, x = nd.FixedDropout(20), torch.rand(3, 20, requires_grad=True)
    nd.unroll(dropout, x, compile=False).sum().backward()
    assert torch.equal(x.grad, dropout.mask.expand(3, 20))
