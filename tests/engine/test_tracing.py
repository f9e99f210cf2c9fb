"""What a traced step is: everything that autograd does in it, and nothing that cannot be a graph."""

import pytest
import torch
from paths import assert_as_plain, fallback
from torch import nn

import neurodyn as nd

pytestmark = pytest.mark.usefixtures("no_programs", "unsaid")


class Through(torch.autograd.Function):
    """A derivative that is not that of the function."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0.5).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.sigmoid()


def in_place(x):
    y = x.clone()
    y[..., 0] = 2 * y[..., 1]
    y[..., 1:].mul_(3)
    return y.add_(1)


def hooked(x):
    y = 2 * x
    if y.requires_grad:
        y.register_hook(lambda grad: 5 * grad)
    return y.sin()


def without_gradient(x):
    with torch.no_grad():
        scale = x.abs().amax(-1, keepdim=True)
    return x / (1 + scale) + x.detach() * x


def again(x):
    return torch.utils.checkpoint.checkpoint(lambda x: x.sin().exp(), x, use_reentrant=False)


def slopes(x):
    return torch.func.grad(lambda x: x.pow(3).sum())(x)


def inner(x):
    if not x.requires_grad:
        x = x.detach().requires_grad_()
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(x.sin().sum(), x, create_graph=True)
    return grad


DOES = {f.__name__: f for f in (in_place, hooked, without_gradient, again)} | {"own derivative": Through.apply}


class Does(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.state, self.scale = function, nd.Expon(4, learn="tau"), nn.Parameter(torch.rand(4))

    def forward(self, x):
        return self.state(self.function(x * self.scale)) + self.function(self.state.g)


@pytest.mark.parametrize("function", DOES.values(), ids=DOES)
def test_autograd_means_what_it_always_means(function):
    assert_as_plain(Does(function), torch.rand(5, 2, 4))


@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
@pytest.mark.parametrize("function", [slopes, inner], ids=lambda f: f.__name__)
def test_derivatives_inside_a_step(function):
    assert_as_plain(Does(function), torch.rand(5, 2, 4))


class Step(nd.Dynamics):
    """A layer whose step is a function of input and state."""

    r = nd.state(0.0)

    def __init__(self, function):
        super().__init__(4)
        self.function = function
        self.register_buffer("offset", torch.ones(4))

    def step(self, x, r):
        return self.function(self, x, r)


def random(self, x, r):
    r = r + torch.rand_like(x)
    return r, r


def writes(self, x, r):
    self.offset.add_(1)
    return x + self.offset, r + 1


def writes_to_the_input(self, x, r):
    return x.add_(1), r + x


def numbers(self, x, r):
    return x + torch.tensor([1.0, 2.0, 3.0, 4.0]), r + x


def branches(self, x, r):
    return (2 * x if x.sum() > 4 else x), r + x


def reads(self, x, r):
    return x + float(r.mean()), r + x


REFUSED = {
    random: "its step draws random numbers",
    writes: "its step writes to offset in place",
    writes_to_the_input: "its step writes to input 0 in place",
    numbers: "its step makes a tensor from Python numbers",
    branches: "cannot be traced",
    reads: "cannot be traced",
}


@pytest.mark.parametrize(("function", "reason"), REFUSED.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_what_is_no_graph_runs_step_by_step(function, reason):
    xs, random_state = 2 * torch.rand(12, 2, 4), torch.get_rng_state()
    ys = fallback(Step(function), xs.clone(), f"Step runs step by step in Python: .*{reason}")
    torch.set_rng_state(random_state)
    net = Step(function)
    net.reset_state(2)
    given = xs.clone()
    wanted = torch.stack([net(x) for x in given])
    assert torch.equal(ys, wanted)


@pytest.mark.usefixtures("no_programs")
def test_a_step_that_knows_its_batch_holds_for_that_batch():
    class Known(nd.Expon):
        def step(self, x, g):
            g, new = super().step(x, g)
            return g * (2 if x.shape[0] == 3 else 1), new

    net = Known(4, learn="tau")
    for batch in (2, 3, 2, 5, 3):
        assert_as_plain(net, torch.rand(5, batch, 4))


def test_an_output_whose_shape_depends_on_the_batch():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.state = nd.Expon(4, learn="tau")

        def forward(self, x):
            return self.state(x).flatten()

    net = Flat()
    for batch in (2, 3, 1):
        assert_as_plain(net, torch.rand(5, batch, 4))


@pytest.mark.parametrize("compile", [True, False])
def test_what_a_step_returns_must_be_tensors(compile):
    class Returns(nd.Dynamics):
        r = nd.state(0.0)

        def __init__(self, value):
            super().__init__(4)
            self.value = value

        def step(self, x, r):
            return self.value, r + x

    for value, words in ((3.0, r"step returned 3\.0, a float"), (None, r"step returned None")):
        with pytest.raises(TypeError, match=words):
            nd.unroll(Returns(value), torch.rand(5, 2, 4), compile=compile)
