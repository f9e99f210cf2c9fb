"""What is said when a state becomes NaN in a simulation."""

import warnings

import pytest
import torch
from torch import nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.tools import errors


class Network(nn.Module):
    def __init__(self, noisy=False):
        super().__init__()
        self.first, self.second, self.noisy = nd.LIF(4), nd.LIF(4), noisy

    def forward(self, x):
        x = x + 0 * torch.rand(4) if self.noisy else x
        return self.second(self.first(x).cumsum(-1))


def drawn(i, n, random):
    x = torch.rand(n, 4, generator=random)
    if i <= 37 < i + n:
        x[37 - i, 2] = torch.nan
    return x


@pytest.mark.parametrize(("compile", "given"), [(False, False), (False, True), (True, True)])
def test_the_layer_the_state_and_the_step(compile, given):
    net, rows = Network(), drawn(0, 60, None) if given else drawn
    before = torch.get_rng_state()
    with pytest.warns(nd.NaNWarning) as said:
        recording = nd.simulate(net, 60 * u.ms, rows, ["first.V"], compile=compile)
    assert [str(w.message) for w in said] == [
        "simulate: V of LIF(4) 'first' is NaN from step 37 on, at 38 ms, in 1 of 4 places; "
        "look at its input in that step, and at dt"
    ]
    assert said[0].filename == __file__
    assert torch.equal(torch.get_rng_state(), before)
    V = recording["first.V"].values
    assert V[:37].isfinite().all()
    assert V[37:].isnan().sum(-1).eq(1).all()
    assert torch.equal(nd.get_states(net)["first.V"].isnan(), V[-1].isnan())


def test_a_network_without_input_and_one_that_draws_numbers():
    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.n = nd.LIF(2, reset="hard", V_initializer=0.5 * u.mV)

        def forward(self):
            return self.n(torch.log(0.9 - self.n.V.abs()) * 0 - 1.0)

    with pytest.warns(nd.NaNWarning, match=r"V of LIF\(2\) 'n' is NaN from step \d+ on, at \d+ ms, in 2 of 2 places"):
        nd.simulate(Alone(), 50 * u.ms, compile=False)
    xs = torch.ones(50, 4)
    xs[7] = torch.nan
    with pytest.warns(nd.NaNWarning, match="V of LIF.* 'first' is NaN from step 107 on"):
        nd.simulate(Network(noisy=True), 50 * u.ms, xs, compile=False, start=100)


def test_nothing_is_said_without_reason():
    net = Network()
    nd.reset_states(net)
    marked = nd.get_states(net) | {"second.V": torch.full((4,), torch.nan)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nd.simulate(net, 20 * u.ms, torch.rand(20, 4), compile=False)
        nd.simulate(net, 20 * u.ms, torch.rand(20, 4), compile=False, states=marked)  # NaN from the start


@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_a_step_that_takes_a_derivative_is_looked_at_too():
    class Descends(nd.Expon):
        def forward(self, x):
            with torch.enable_grad():
                y = x.detach().clone().requires_grad_()
                (slope,) = torch.autograd.grad((y * y).sum(), y)
            return super().forward(slope)

    xs = torch.ones(20, 3)
    xs[7] = torch.nan
    with pytest.warns(nd.NaNWarning, match="g of Descends.* is NaN from step 7 on"):
        nd.simulate(Descends(3), 20 * u.ms, nd.series(xs), compile=False)


@pytest.mark.parametrize("options", [{"compile": False}, {}, {"checkpoint": 8}, {"record": "second.V"}])
@pytest.mark.parametrize("training", [False, True])
def test_unroll_says_it_once_and_leaves_no_trace(options, training):
    net = Network()
    xs = drawn(0, 60, torch.Generator().manual_seed(0)).requires_grad_(training)
    random, calls = torch.get_rng_state(), []
    net.first.register_forward_hook(lambda *_: calls.append(1))
    if "compile" not in options:
        net.first._forward_hooks.clear()
    with pytest.warns(nd.NaNWarning) as said:
        nd.unroll(net, xs, **options)
    assert [str(w.message) for w in said if w.category is nd.NaNWarning] == [
        "unroll: V of LIF(4) 'first' is NaN from step 37 on, at 38 ms, in 1 of 4 places; "
        "look at its input in that step, and at dt"
    ]
    assert said[0].filename == __file__
    assert torch.equal(torch.get_rng_state(), random)
    assert len(calls) == (60 if "compile" in options else 0)
    assert net.first.V.isnan().tolist() == [False, False, True, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error", nd.NaNWarning)
        nd.unroll(net, xs, **options)


def test_unroll_says_where_it_comes_from():
    net = nn.Sequential(nn.Linear(3, 4), nd.LIF(4))
    with torch.no_grad():
        net[0].weight[1, 2] = torch.nan
    with pytest.warns(
        nd.NaNWarning, match=r"V of LIF\(4\) '1' is NaN after the last step, in 1 of 4 .*'0\.weight' is NaN"
    ):
        nd.unroll(net, torch.rand(5, 3), compile=False)
    net, xs = nd.LIF(4), torch.zeros(9, 4)
    xs[8, 1], xs[8, 2] = torch.inf, -torch.inf  # the sum of the last V is NaN, and V is not
    with warnings.catch_warnings():
        warnings.simplefilter("error", nd.NaNWarning)
        nd.unroll(net, xs, compile=False)
        nd.unroll(net, xs, states={"V": torch.tensor([torch.nan, 0, 0, 0])}, compile=False)
        torch.func.jvp(lambda x: nd.unroll(net, x, compile=False), (torch.full_like(xs, torch.nan),), (xs,))
    xs[6], two = torch.nan, nn.Sequential(nd.LIF(4), nd.LIF(4))
    start = {"0.V": torch.zeros(4), "1.V": torch.tensor([torch.nan, 0, 0, 0])}
    with pytest.warns(nd.NaNWarning, match=r"V of LIF\(4\) '0' is NaN from step 6 on, at 7 ms, in 4 of 4 places; look"):
        nd.unroll(two, xs, states=start, compile=False)


class SaysInACopy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lif, self.own = nd.LIF(3), id(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if id(self) != self.own:
            errors.warn_once("a word")
        return self.lif(x)


def test_what_a_copy_does_not_say_is_said_later(unsaid) -> None:
    """The copy on which the step is found runs without a word, and keeps no word from the user."""
    net, xs = SaysInACopy(), torch.rand(4, 2, 3)
    xs[2, 0, 0] = float("nan")
    with pytest.warns(nd.NaNWarning, match="from step 2 on"):
        nd.unroll(net, xs, compile=False)
    with pytest.warns(nd.EagerWarning, match="a word"):
        errors.warn_once("a word")
