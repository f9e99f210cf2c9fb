"""What a layer gives out may be written to by the next one, as by ``nn.ReLU(inplace=True)``, on every path alike."""

import pytest
import torch
from paths import assert_same
from torch import nn

import neurodyn as nd
from neurodyn import units as u


class Inside(nn.Module):
    """A row that is no row to `unroll`."""

    def __init__(self, row):
        super().__init__()
        self.row = row

    def forward(self, x):
        return self.row(x)


LAYERS = {
    "Expon": lambda: nd.Expon(4, learn="tau"),
    "Alpha": lambda: nd.Alpha(4, learn="tau"),
    "LeakyRateReadout": lambda: nd.LeakyRateReadout(4, 4),
    "Recurrent": lambda: nd.Recurrent(nd.LIF(4, R=5 * u.Gohm), nn.Linear(4, 4)),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_that_writes_to_its_input_changes_no_state(make):
    row, xs = nn.Sequential(make(), nn.LeakyReLU(0.3, inplace=True)), torch.rand(7, 2, 4) - 0.3

    def outcome(run):
        ys = run()
        return [ys.detach(), *torch.autograd.grad(ys.square().sum(), [*row.parameters()]), *nd.get_states(row).values()]

    def by_hand():
        nd.reset_states(row, 2)
        return torch.stack([row(x) for x in xs])

    def apart():
        nd.reset_states(row, 2)
        return torch.stack([nn.functional.leaky_relu(row[0](x), 0.3) for x in xs])

    wanted = outcome(apart)
    assert_same(outcome(by_hand), wanted)
    for net in (row, Inside(row)):
        for options in ({}, {"compile": False}, {"checkpoint": 3}):
            assert_same(outcome(lambda net=net, options=options: nd.unroll(net, xs, **options)), wanted)
