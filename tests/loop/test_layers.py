"""Which layers run on all steps at once, and that they give what they give step by step."""

import pytest
import torch
from paths import assert_as_plain, assert_same
from torch import nn

import neurodyn as nd
from neurodyn.loop.layers import ITEM_DIMENSIONS, layers, runs_on_all_steps

#: Arguments for layers that need some; the shape of one step, batch first.
ARGUMENTS = {
    nn.Linear: (4, 3),
    nn.Threshold: (0.4, 0.2),
    nn.Embedding: (7, 3),
    nn.BatchNorm1d: (4,),
    nn.GroupNorm: (2, 4),
    **dict.fromkeys((nn.Conv1d, nn.ConvTranspose1d, nn.Conv2d, nn.ConvTranspose2d), (4, 2, 2)),
    **dict.fromkeys((nn.Conv3d, nn.ConvTranspose3d), (4, 2, 2)),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm2d, nn.BatchNorm3d), (4,)),
    **dict.fromkeys((nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.LocalResponseNorm), (2,)),
    **dict.fromkeys((nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), (8,)),
    nn.Upsample: (None, 2),
    nn.Unfold: (2,),
    nn.Fold: ((4, 4), 2),
    **dict.fromkeys((nn.LPPool1d, nn.LPPool2d, nn.LPPool3d), (2, 2)),
    **dict.fromkeys((nd.ScaledWSConv1d, nd.ScaledWSConv2d, nd.ScaledWSConv3d), (4, 2, 2)),
}
SHAPES = {0: (2, 3), 1: (2, 4), 2: (2, 4, 6), 3: (2, 4, 6, 6), 4: (2, 4, 4, 4, 4)}


def made(kind):
    if kind in ARGUMENTS:
        return kind(*ARGUMENTS[kind])
    name = kind.__name__
    if "Pool" in name:
        return kind(2)
    if "Pad" in name:
        return kind(1, 0.5) if "Constant" in name else kind(1)
    return kind()


def step_by_step(layer, xs):
    return torch.stack([layer(x) for x in xs])


@pytest.mark.parametrize("kind", ITEM_DIMENSIONS, ids=lambda kind: kind.__name__)
def test_torchs_layers_on_all_steps(kind):
    layer = made(kind).eval()
    shape = (2, 16, 9) if kind is nn.Fold else SHAPES[ITEM_DIMENSIONS[kind]]
    xs = torch.randint(7, (3, *shape)) if kind is nn.Embedding else torch.rand(3, *shape)
    assert runs_on_all_steps(layer, xs)
    assert_same([nd.unroll(layer, xs).detach()], [step_by_step(layer, xs).detach()])


FEWER = [nn.Upsample(scale_factor=2), nn.LocalResponseNorm(2), nn.ChannelShuffle(2)]


@pytest.mark.parametrize("layer", FEWER, ids=lambda layer: type(layer).__name__)
def test_layers_without_a_mode_for_one_item(layer):
    xs = torch.rand(3, 2, 4, 6)
    assert_same([nd.unroll(layer, xs)], [step_by_step(layer, xs)])


@pytest.mark.filterwarnings("ignore:dropout2d")
@pytest.mark.parametrize(("kind", "shape"), [(nn.Dropout2d, (50, 4, 6))])
def test_dropout_leaves_no_sample_out_as_a_whole(kind, shape):
    xs = torch.rand(20, *shape) + 1
    ys = nd.unroll(kind(0.5), xs)
    whole = (ys == ys.flatten(2)[..., :1].view(20, 50, *[1] * (len(shape) - 1))).flatten(2).all(-1)
    assert not whole.double().mean() > 0.2


def test_pooling_that_returns_indices_too():
    layer, xs = nn.MaxPool1d(2, return_indices=True), torch.rand(5, 2, 4, 6)
    found, wanted = nd.unroll(layer, xs), [layer(x) for x in xs]
    assert torch.equal(found[0], torch.stack([y for y, _ in wanted]))
    assert torch.equal(found[1], torch.stack([i for _, i in wanted]))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.LayerNorm(4), (2, 4)),
        (nn.LayerNorm(4), (4,)),
        (nn.LayerNorm((2, 4)), (2, 4)),
        (nn.RMSNorm(4), (2, 4)),
        (nn.Flatten(), (2, 3, 4)),
        (nn.Flatten(0), (2, 3)),
        (nn.Flatten(-2), (2, 3, 4)),
        (nn.Unflatten(1, (2, 2)), (3, 4)),
        (nn.Unflatten(-1, (2, 2)), (3, 4)),
        (nn.Unflatten(0, (2, 2)), (4, 3)),
        (nn.Softmax(-1), (2, 4)),
        (nn.Softmax(0), (2, 4)),
        (nn.LogSoftmax(1), (2, 4, 3)),
        (nn.GLU(), (2, 4)),
        (nn.GLU(0), (2, 4)),
        (nn.PReLU(), (2, 4)),
        (nn.Conv1d(4, 2, 3), (4, 6)),
        (nn.MaxPool2d(2), (4, 6, 6)),
        (nn.Linear(4, 3), (2, 3, 4)),
        (nn.Linear(4, 3), (4,)),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (2, 4)),
    ],
    ids=str,
)
def test_layers_whose_dimensions_decide(layer, shape):
    layer, xs = layer.double(), torch.rand(3, *shape)
    assert_same([nd.unroll(layer, xs).detach()], [step_by_step(layer, xs).detach()])


def test_what_says_that_it_is_rowwise_runs_once():
    calls = []

    class Spy(nn.Linear):
        rowwise = True

        def forward(self, x):
            calls.append(tuple(x.shape))
            return super().forward(x)

    net = nn.Sequential(Spy(5, 4), nd.LIF(4))
    nd.unroll(net, torch.rand(6, 3, 5))
    nd.unroll(net, torch.rand(6, 5))
    assert calls == [(18, 5), (6, 5)]


def test_what_does_not_say_so_runs_step_by_step():
    class Centred(nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    net, xs = nn.Sequential(Centred(), nd.LIF(4, learn="tau")), 60 * torch.rand(6, 3, 4)
    assert nd.unroll(net, xs).sum() > 0
    nd.reset_states(net, 3)
    wanted = step_by_step(net, xs)
    assert torch.equal(nd.unroll(net, xs), wanted)
    assert_as_plain(net, xs)


def test_what_has_states_is_never_rowwise():
    class Said(nn.Module):
        rowwise = True

        def __init__(self):
            super().__init__()
            self.lif = nd.LIF(4)

        def forward(self, x):
            return self.lif(x)

    assert not runs_on_all_steps(Said())
    xs = 3 * torch.rand(6, 3, 4)
    assert torch.equal(nd.unroll(nn.Sequential(Said()), xs), nd.unroll(nd.LIF(4), xs))


def test_a_hook_on_a_layer_is_called_at_every_step(unsaid):
    linear, calls = nn.Linear(5, 4), []
    linear.register_forward_hook(lambda *given: calls.append(1))
    with pytest.warns(nd.EagerWarning, match="has hooks"):
        nd.unroll(nn.Sequential(linear, nd.LIF(4)), torch.rand(6, 3, 5))
    assert len(calls) == 6


def test_batch_norm_takes_its_statistics_from_all_steps_once():
    norm, xs = nn.BatchNorm1d(4), torch.rand(6, 3, 4)
    ys = nd.unroll(nn.Sequential(norm, nd.Expon(4)), xs)
    assert norm.num_batches_tracked == 1
    twin = nn.BatchNorm1d(4)
    wanted = nd.unroll(nd.Expon(4), twin(xs.flatten(0, 1)).view_as(xs))
    assert_same([ys.detach(), norm.running_mean], [wanted.detach(), twin.running_mean])


def test_images():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nd.LIF((2, 4, 4)), nn.Flatten(), nn.Linear(32, 2)
    )
    assert nd.unroll(net, torch.rand(6, 3, 1, 4, 4)).shape == (6, 3, 2)


def kinds(net):
    return [type(layer).__name__ for layer in layers(net)]


def test_neighbouring_dynamics_become_one_layer():
    net = nn.Sequential(nn.Linear(4, 4), nd.Expon(4), nn.Sequential(nd.LIF(4), nd.Expon(4)), nn.ReLU(), nd.LIF(4))
    assert kinds(net) == ["Linear", "Sequential", "ReLU", "LIF"]
    assert layers(net)[1] is layers(net)[1]
    net[3] = nd.LIF(4)
    assert kinds(net) == ["Linear", "Sequential"]


def test_a_layer_in_two_places_keeps_everything_together():
    lif = nd.LIF(4)
    net, xs = nn.Sequential(lif, nn.Linear(4, 4), lif), 9 * torch.rand(6, 3, 4)
    assert layers(net) == [net]
    nd.reset_states(net, 3)
    wanted = step_by_step(net, xs).detach()
    assert wanted.sum() > 0
    assert_same([nd.unroll(net, xs).detach()], [wanted])


def test_recurrent_cells_of_torch_are_refused():
    for cell, hint in ((nn.GRUCell(3, 3), "GRUCell"), (nn.LSTM(3, 3), "the layer itself on the whole sequence")):
        with pytest.raises(TypeError, match=f"forgets its state at every step; use .*{hint}"):
            nd.unroll(nn.Sequential(nd.LIF(3), cell), torch.rand(4, 2, 3))


class Adds(nn.Module):
    """Adds to its input a tensor that it changes."""

    def __init__(self, tensor, as_buffer):
        super().__init__()
        if as_buffer:
            self.register_buffer("tensor", tensor)
        else:
            self.tensor = tensor

    def forward(self, x):
        y = x + self.tensor
        self.tensor += 1
        return y


@pytest.mark.parametrize("as_view", [True, False])
@pytest.mark.parametrize("as_buffer", [True, False])
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_layers_that_share_a_tensor_run_step_by_step(as_buffer, as_view):
    xs, found = torch.rand(5, 2, 3), []
    for way in ("loop", "plain", "compiled"):
        tensor = torch.zeros(3)
        other = tensor.view(1, 3)[0] if as_view else tensor
        net = nn.Sequential(Adds(tensor, as_buffer), nd.LIF(3), Adds(other, as_buffer))
        if way == "loop":
            nd.reset_states(net, 2)
            ys = torch.stack([net(x) for x in xs])
        else:
            ys = nd.unroll(net, xs, compile=way == "compiled")
        found.append([ys, tensor.clone()])
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


class Writes(nn.Module):
    def __init__(self, memory):
        super().__init__()
        self.neuron, self.memory = nd.LIF(1), memory

    def forward(self, x):
        with torch.no_grad():
            self.memory["count"].add_(1.0)
        return self.neuron(x)


class Shows(Writes):
    def forward(self, x):
        return self.neuron(x) + self.memory["count"]


class SeesPeer(nn.Module):
    def __init__(self, peer):
        super().__init__()
        self.peers, self.neuron = [peer], nd.LIF(1)  # a list, so that it is no part of this module

    def forward(self, x):
        return self.neuron(x) + self.peers[0].V


def sharing(kind):
    if kind == "dict":
        memory = {"count": torch.zeros(1)}
        return nn.Sequential(Writes(memory), Shows(memory))
    first = nd.LIF(1)
    return nn.Sequential(first, SeesPeer(first))


@pytest.mark.parametrize("kind", ["dict", "peer"])
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_layers_that_act_on_each_other_through_what_they_hold(kind, compile):
    xs, net = torch.full((4, 1), 1.5), sharing(kind)
    nd.reset_states(net)
    wanted = torch.stack([net(x) for x in xs])
    assert nd.unroll(sharing(kind), xs, compile=compile).equal(wanted)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.neuron = nd.LIF(1, tau=3 * nd.units.ms)

    def forward(self, x):
        return self.neuron(x) + self.neuron.V


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_layers_that_share_neurons_from_a_later_call_on(compile):
    net, xs = nn.Sequential(nd.LIF(1), Own()), torch.full((4, 1), 1.5)
    nd.unroll(net, xs, compile=compile)
    net[1].neuron = net[0]
    nd.reset_states(net)
    wanted = torch.stack([net(x) for x in xs])
    assert nd.unroll(net, xs, compile=compile).equal(wanted)


def test_a_layer_that_reads_another_through_the_network():
    class Reads(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.held = [net]

        def forward(self, x):
            return x + self.held[0][-1].V

    net = nn.Sequential(nn.Linear(3, 4), nd.LIF(4))
    net.insert(1, Reads(net))
    xs = 3 * torch.rand(7, 2, 3)
    nd.reset_states(net, 2)
    wanted = torch.stack([net(x) for x in xs])
    assert_same([nd.unroll(net, xs, compile=False).detach()], [wanted.detach()])


def test_a_list_that_two_layers_hold_makes_them_one():
    class Adds(nn.Module):
        def __init__(self, held):
            super().__init__()
            self.held = held

        def forward(self, x):
            self.held[0] += 1
            return x + self.held[0]

    held = [torch.zeros(1)]
    net = nn.Sequential(Adds(held), nd.LIF(3), Adds(held))
    assert layers(net) == [net]
    assert layers(net) == [net]
