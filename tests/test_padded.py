"""Padded batches: numbers and gradients are those of the sequences run one by one."""

import pytest
import torch
import torch.nn.functional as F
from composed import composed, inputs
from torch.nn.utils import rnn

import neurodyn as nd

LENGTHS = (12, 30, 1, 21)


@pytest.fixture
def batch():
    sequences = [inputs(length, seed=i) for i, length in enumerate(LENGTHS)]
    return sequences, rnn.pad_sequence(sequences), torch.tensor(LENGTHS)


def gradients(net, loss):
    return torch.autograd.grad(loss, list(net.parameters()))


@pytest.mark.parametrize("padding", [0.0, 3.0])
def test_the_last_output(batch, padding):
    sequences, xs, lengths = batch
    xs = torch.where(nd.step_mask(lengths, len(xs))[..., None], xs, padding)  # whatever stands there
    labels, net = torch.tensor([0, 2, 1, 1]), composed()
    ys = nd.last(nd.unroll(net, xs, compile=False), lengths)
    loss = F.cross_entropy(ys, labels)
    alone = torch.stack([nd.unroll(net, x, compile=False)[-1] for x in sequences])
    torch.testing.assert_close(ys, alone, rtol=1e-12, atol=1e-14)
    wanted = F.cross_entropy(alone, labels)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=0)
    for a, b in zip(gradients(net, loss), gradients(net, wanted), strict=True):
        assert b.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_every_step_and_means(batch):
    sequences, xs, lengths = batch
    net = composed()
    labels = [torch.randint(3, (len(x),)) for x in sequences]
    mask = nd.step_mask(lengths, len(xs))
    ys = nd.unroll(net, xs, compile=False)
    each = F.cross_entropy(ys[mask], rnn.pad_sequence(labels)[mask])
    mean = ((ys * mask[..., None]).sum(0) / lengths[:, None]).square().sum()
    runs = [nd.unroll(net, x, compile=False) for x in sequences]
    pairs = [(each, F.cross_entropy(torch.cat(runs), torch.cat(labels)))]
    pairs += [(mean, sum(y.mean(0).square().sum() for y in runs))]
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)
        for a, b in zip(gradients_kept(net, found), gradients_kept(net, wanted), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def gradients_kept(net, loss):
    return torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)


def test_states_at_the_end_of_each_sequence(batch):
    sequences, xs, lengths = batch
    net = composed()
    _, recording = nd.unroll(net, xs, record="1.V", compile=False)
    ends = nd.last(recording["1.V"].values, lengths)
    for x, end in zip(sequences, ends, strict=True):
        nd.unroll(net, x, compile=False)
        torch.testing.assert_close(net[1].V, end, rtol=1e-12, atol=1e-14)


def test_shapes():
    lengths = torch.tensor([[1, 3], [2, 2]], dtype=torch.int32)
    mask = nd.step_mask(lengths, 4)
    assert mask.shape == (4, 2, 2)
    assert torch.equal(mask.sum(0), lengths.long())
    ys = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 2, 2, 5, 6)
    found = nd.last(ys, lengths)
    assert found.shape == (2, 2, 5, 6)
    assert torch.equal(found[..., 0, 0], lengths - 1.0)
    assert torch.equal(nd.last(ys[:, 0, 0], torch.tensor(3)), ys[2, 0, 0])
    assert not nd.step_mask(torch.tensor([0]), 3).any()


@pytest.mark.parametrize(
    ("lengths", "error", "wanted"),
    [
        ([1, 2], TypeError, "whole numbers, got a list; for example torch.tensor"),
        (torch.tensor([1.0, 2.0]), TypeError, "got a tensor of torch.float"),
        (torch.tensor([True, False]), TypeError, "got a tensor of torch.bool"),
        (torch.tensor([1, 9]), ValueError, "between . and the 4 steps of the padded batch, got 1 to 9"),
        (torch.tensor([-1, 2]), ValueError, "got -1 to 2"),
    ],
)
def test_wrong_lengths(lengths, error, wanted):
    for call in (lambda: nd.step_mask(lengths, 4), lambda: nd.last(torch.rand(4, 2, 3), lengths)):
        with pytest.raises(error, match=wanted):
            call()


def test_wrong_lengths_of_last():
    with pytest.raises(ValueError, match="between 1 and the 4 steps"):
        nd.last(torch.rand(4, 2, 3), torch.tensor([0, 2]))
    with pytest.raises(
        ValueError, match=r"lengths has shape \(3,\), wanted the batch of ys, which has shape \(4, 2, 3\)"
    ):
        nd.last(torch.rand(4, 2, 3), torch.tensor([1, 2, 3]))


class Padded(torch.nn.Module):
    """A classifier of padded sequences, with the lengths as an input."""

    def __init__(self):
        super().__init__()
        self.steps = nd.Unroll(torch.nn.Sequential(torch.nn.Linear(3, 5), nd.LIF(5)), compile=False)

    def forward(self, xs, lengths):
        ys = self.steps(xs)
        mask = nd.step_mask(lengths, ys.shape[0])  # len(ys) would fix the number of steps
        return nd.last(ys, lengths), (ys * mask[..., None]).sum(0)


def test_it_is_exported_with_the_lengths_as_an_input():
    T, batch = torch.export.Dim("T", min=1), torch.export.Dim("batch", min=1)
    net, xs, lengths = Padded(), 4 * torch.rand(9, 4, 3), torch.tensor([3, 9, 1, 5])
    shapes = {"xs": {0: T, 1: batch}, "lengths": {0: batch}}
    program = torch.export.export(net, (xs, lengths), dynamic_shapes=shapes).module()
    for n, sizes in ((9, [3, 9, 1, 5]), (12, [12]), (4, [1, 4])):
        xs, lengths = 4 * torch.rand(n, len(sizes), 3), torch.tensor(sizes)
        for got, wanted in zip(program(xs, lengths), net(xs, lengths), strict=True):
            assert torch.equal(got, wanted)


def test_inside_vmap():
    ys, lengths = torch.rand(6, 5, 4, 2), torch.randint(1, 7, (5, 4))
    got = torch.func.vmap(nd.last, in_dims=(1, 0))(ys, lengths)
    assert torch.equal(got, nd.last(ys, lengths))
