"""In training, a layer that never spikes and passes next to no gradient is said, once."""

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
        (lambda: two(V_th=3 * u.mV), {}),  # silent, and it learns
        (lambda: two(**DEAD), {"loss": lambda ys: 0 * ys.sum()}),  # no gradient comes in
        (lambda: two(**DEAD).eval(), {}),
        (lambda: two(**DEAD).requires_grad_(False), {}),
        (lambda: nd.LIF(3, **DEAD, learn="tau"), {}),  # nothing before it
    ],
)
def test_it_does_not_cry_wolf(make, options: dict):
    assert not train(make(), torch.rand(12, 2, 3), 30, compile=False, **options)


#: Values of cells, for which the weights of nn.Linear are far too small.
CELL = {"tau": 20 * u.ms, "R": 0.1 * u.Gohm}
FAR = {"V_th": -50 * u.mV, "V_reset": -60 * u.mV, "V_rest": -65 * u.mV, "V_initializer": nd.init.Constant(-65 * u.mV)}


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: nd.LIF(4, **CELL, V_th=15 * u.mV), {}),
        (lambda: nd.LIF(4, **CELL, V_th=15 * u.mV), {"loss": lambda ys: 1e-6 * ys.sum()}),
        (lambda: nd.LIF(4, **CELL, V_th=15 * u.mV), {"loss": lambda ys: ys[-1].sum()}),
        (lambda: nd.LIF(4, **CELL, V_th=15 * u.mV, surrogate=nd.surrogate.Arctan(alpha=2)), {}),
        (lambda: nd.LIF(4, **CELL, **FAR), {}),
        (lambda: nd.LIFRef(4, **CELL, **FAR), {}),
        (lambda: nd.ALIF(4, **CELL, V_th=15 * u.mV), {}),
        (lambda: nd.AdEx(4), {}),
        (lambda: nd.Recurrent(nd.LIF(4, **CELL, V_th=15 * u.mV), nn.Linear(4, 4)), {}),
    ],
)
def test_values_of_a_cell(make, options: dict):
    net = nn.Sequential(nn.Linear(3, 4), make())
    assert len(train(net, torch.rand(12, 2, 3), compile=False, **options)) == 1


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("V_th", "said"), [(3.0, 0), (300.0, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_depends_on_no_unit(unit: float, V_th: float, said: int, dtype: torch.dtype):
    """Neither on that of the potential, nor on that of the input, nor on that of the loss."""
    torch.set_default_dtype(dtype)
    for potential, current, loss in ((unit, 1.0, 1.0), (1.0, unit, 1.0), (1.0, 1.0, unit)):
        values = {"V_th": V_th * potential * u.mV, "R": potential / current * u.Gohm}
        net = nn.Sequential(nn.Linear(3, 4), nd.LIF(4, **values))
        with torch.no_grad():
            net[0].weight.fill_(0.2 * current)
            net[0].bias.zero_()
        assert len(train(net, torch.rand(12, 2, 3), compile=False, loss=lambda ys, by=loss: by * ys.sum())) == said


def test_what_cannot_be_known_is_not_said():
    zeros = nn.Linear(3, 4)
    nn.init.zeros_(zeros.weight)
    nn.init.zeros_(zeros.bias)
    assert not train(nn.Sequential(zeros, nd.LIF(4)), torch.rand(12, 2, 3), 30, compile=False)
    assert train(nn.Sequential(zeros, nd.LIF(4, **DEAD)), torch.rand(12, 2, 3), 30, compile=False)  # exactly zero
    torch.set_default_dtype(torch.float32)  # in which the gradient is lost in rounding
    assert not train(two(V_th=3 * u.mV), torch.rand(12, 2, 3), 30, compile=False, loss=lambda ys: 1e-44 * ys.sum())


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
    for add in (silence.Evidence.add, lambda *_: None):
        monkeypatch.setattr(silence.Evidence, "add", add)
        net.zero_grad()
        nd.unroll(net, xs, compile=False).square().sum().backward()
        found.append([p.grad.clone() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


class Own(nn.Module):
    """A network of one's own, with one layer that is dead, if it is to be."""

    def __init__(self, **values):
        super().__init__()
        self.first, self.lif = nn.Linear(3, 4), nd.LIF(4)
        self.second, self.inner, self.out = nn.Linear(4, 4), nd.LIF(4, **values), nn.Linear(4, 2)
        self.calls = nd.LeakyRateReadout(4, 2)

    def forward(self, x):
        spikes = self.lif(self.first(x))
        return self.calls(spikes) + self.out(self.inner(self.second(spikes)))


@pytest.mark.parametrize("options", [{"compile": False}, {}, {"checkpoint": 4}, {"checkpoint": 4, "compile": False}])
def test_a_layer_inside_a_module_of_ones_own(options: dict):
    net, xs = Own(**DEAD), torch.rand(8, 2, 3)
    (said,) = train(net, xs, 14, **options)
    assert "LIF(4) 'inner' sent no spike in " in str(said.message)
    assert "and its threshold 50 mV" in str(said.message)
    assert said.filename == __file__
    assert not train(Own(), xs, 14, **options)
    assert not train(Own(V_th=3 * u.mV), xs, 14, **options)  # silent, and it learns


@pytest.mark.parametrize("compile", [False, True])
def test_a_row_in_blocks(compile: bool):
    net, xs = two(**DEAD), torch.rand(12, 2, 3)
    (said,) = train(net, xs, 14, compile=compile, checkpoint=4)
    assert "LIF(4) '3' sent no spike in " in str(said.message)
    assert not train(two(), xs, 14, compile=compile, checkpoint=4)


def test_a_layer_that_is_not_the_last_of_those_that_run_together():
    net = nn.Sequential(nn.Linear(3, 4), nd.LIF(4, **DEAD), nd.Expon(4))
    (said,) = train(net, torch.rand(12, 2, 3), 14)
    assert "LIF(4) '1' sent no spike in training calls 5 and 10 and passed" in str(said.message)


def loop(net, xs, sequences: int, ends=nd.reset_states) -> list[warnings.WarningMessage]:
    """The warnings that a loop of one's own gives."""
    nd.reset_states(net, xs.shape[1])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(sequences):
            ys = torch.stack([net(x) for x in xs])
            ys.square().sum().backward()
            ends(net, xs.shape[1])
    return [one for one in said if one.category is nd.SilenceWarning]


@pytest.mark.parametrize("ends", [nd.reset_states, lambda net, _: nd.detach_states(net)])
def test_a_loop_of_ones_own(ends):
    net, xs = Own(**DEAD), torch.rand(12, 2, 3)
    assert not loop(net, xs, silence.CALLS, ends)
    (said,) = loop(net, xs, 2, ends)
    text = str(said.message)
    assert f"LIF(4) sent no spike in the first {silence.CALLS} training sequences and passed next to no" in text
    assert "the network of one step that your loop calls" in text
    assert said.filename == __file__
    assert not loop(net, xs, 12, ends)
    assert not loop(Own(), xs, 12, ends)
    assert not loop(Own(V_th=3 * u.mV), xs, 12, ends)
    with torch.no_grad():
        wakes = Own(**DEAD)
        wakes.second.bias += 100
    assert not loop(wakes, xs, 12, ends)
    assert silence.is_settled(wakes.inner)


def test_looks_inside_change_no_numbers():
    """Neither gradients nor states nor random numbers, nor the path that a module takes."""
    torch.manual_seed(0)
    net, xs, found = nn.Sequential(Own(**DEAD), nn.Dropout(0.5)), torch.rand(12, 2, 3), []
    twin = copy.deepcopy(net)
    for module in twin.modules():
        silence.settle_layer(module)
    for one in (net, twin):
        torch.manual_seed(1)
        train(one, xs, 14)
        found.append([*(p.grad for p in one.parameters()), *nd.get_states(one).values(), torch.rand(3)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
