"""Matrix products inside the time loop: computed once; large ones by operators that know of zeros."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import neurodyn as nd
from neurodyn.ops.spike_products import linear
from neurodyn.torch_private import Sizes


def gradients(net, xs, **how):
    net.zero_grad()
    ys = nd.unroll(net, xs, **how)
    (ys * torch.linspace(-1, 1, ys.shape[-1], dtype=ys.dtype)).sum().backward()
    return [ys.detach(), *(p.grad for p in net.parameters())]


def recurrent(size):
    torch.manual_seed(0)
    return nd.Recurrent(nd.LIF(size, learn="tau"), nn.Linear(size, size))


def test_kept_products_change_nothing():
    net, xs = recurrent(6), torch.randn(19, 4, 6)
    kept, again = gradients(net, xs), gradients(net, xs, checkpoint=1)
    for found, wanted in zip(kept, again, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def calls_of(work):
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        result = work()
    return result, {event.key: event.count for event in profiler.key_averages()}


def rows_of(density, *shape):
    """Graded rows, of which so many elements are not zero."""
    return torch.randn(*shape, dtype=torch.float32) * (torch.rand(*shape) < density)


def close(found, wanted):
    wanted = wanted.double()
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp(min=1)


def test_large_products_in_the_loop_are_made_once_and_those_of_a_weight_together():
    T, net = 8, recurrent(512).float()
    xs = torch.randn(T, 8, 512, dtype=torch.float32)
    wanted = gradients(net, xs, compile=False)
    gradients(net, xs)
    found, calls = calls_of(lambda: gradients(net, xs))
    assert calls["neurodyn::linear"] == 2 * T  # forward, gradient of the spikes
    assert calls["neurodyn::outer"] < T  # gradient of the weights
    assert not calls.keys() & {"aten::mm", "aten::addmm"}
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_a_large_linear_between_layers(bias):
    net = nn.Sequential(nd.LIF(256), nn.Linear(256, 300, bias=bias)).float()
    xs = torch.randn(80, 3, 256, dtype=torch.float32)
    found, calls = calls_of(lambda: gradients(net, xs))
    assert (calls["neurodyn::linear"], calls["neurodyn::outer"]) == (1, 1)  # no gradient of spikes
    wanted = [(net[1](nd.unroll(net[0], xs)))]
    (wanted[0] * torch.linspace(-1, 1, 300, dtype=torch.float32)).sum().backward(inputs=list(net.parameters()))
    for one, other in zip(found, [wanted[0].detach(), *(p.grad for p in net.parameters())], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert "neurodyn::linear" not in calls_of(lambda: gradients(net, xs, compile=False))[1]


@pytest.mark.parametrize("density", [0.0, 0.02, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(64, 512, 512), (5, 37, 131), (1, 16, 128), (700, 130, 257)])
def test_products_whatever_is_zero(density, rows, n_in, n_out):
    x, weight, bias = rows_of(density, rows, n_in), torch.randn(n_out, n_in).float(), torch.randn(n_out).float()
    for b, how in ((bias, {"look": True}), (None, {"columns": weight.t()})):
        found = torch.ops.neurodyn.linear(x, weight, b, **how)
        close(found, nn.functional.linear(x.double(), weight.double(), None if b is None else b.double()))
    xs, gs = [x, rows_of(density, rows, n_in), x.clone()], [torch.randn(rows, n_out).float() for _ in range(3)]
    close(torch.ops.neurodyn.outer(xs, gs), sum(x.double().T @ g.double() for x, g in zip(xs, gs, strict=True)))
    close(torch.ops.neurodyn.outer(gs, xs), sum(g.double().T @ x.double() for x, g in zip(xs, gs, strict=True)))
    close(torch.ops.neurodyn.outer([x], [gs[0]]), x.double().T @ gs[0].double())


def test_a_weight_that_is_not_finite_shows_where_its_input_is_not_zero():
    x, weight = rows_of(0.1, 64, 512), torch.zeros(512, 512).float()
    x[:, 0], weight[:, 0] = 0, torch.nan
    assert torch.ops.neurodyn.linear(x, weight, None, weight.t().contiguous()).isfinite().all()
    x[5, 0] = 1
    y = torch.ops.neurodyn.linear(x, weight, None, weight.t().contiguous())
    assert y.isnan().all(1).nonzero().tolist() == [[5]]


def test_products_do_not_depend_on_strides_or_threads():
    x, weight, g = rows_of(0.1, 512, 64), torch.randn(300, 512).float(), torch.randn(300, 64).float()
    wanted = torch.ops.neurodyn.linear(x.t().contiguous(), weight, None, weight.t().contiguous())
    outer = torch.ops.neurodyn.outer([x.t().contiguous()], [g.t().contiguous()])
    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            assert torch.ops.neurodyn.linear(x.t(), weight, None, weight.t().contiguous()).equal(wanted)
            assert torch.ops.neurodyn.outer([x.t()], [g.t()]).equal(outer)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of opcheck itself, in torch 2.14
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_the_operators_are_sound_and_differentiable_twice(density):
    x = rows_of(density, 12, 150).requires_grad_()
    weight, bias = torch.randn(140, 150).float().requires_grad_(), torch.randn(140).float().requires_grad_()
    columns = weight.detach().t().contiguous()
    torch.library.opcheck(torch.ops.neurodyn.linear.default, (x, weight, bias, columns))
    torch.library.opcheck(torch.ops.neurodyn.outer.default, ([x], [torch.randn(12, 140).float()]))

    def curved(linear):
        y = linear(x, weight, bias)
        firsts = torch.autograd.grad((y**3).sum(), (x, weight, bias), create_graph=True)
        return torch.autograd.grad(sum((first**2).sum() for first in firsts), (x, weight, bias))

    found = curved(lambda *given: torch.ops.neurodyn.linear(*given, columns))
    for one, other in zip(found, curved(nn.functional.linear), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3 * other.abs().max().item())


def spikes(*shape):
    return 3 * rows_of(0.05, *shape)


def check_against_eager(net, xs):
    for found, wanted in zip(gradients(net, xs), gradients(net, xs, compile=False), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())


class Weighted(nn.Module):
    """A neuron behind a connection, in one module."""

    def __init__(self, connection, size):
        super().__init__()
        self.connection, self.lif = connection, nd.LIF(size)

    def forward(self, x):
        y = self.connection(x)
        return self.lif(y) + y.tanh()


class LowRank(nn.Module):
    """A weight that is larger than what it is made of."""

    def __init__(self, size):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(size, 8)), nn.Parameter(torch.randn(8, size) / 50)

    def forward(self, x):
        return x @ (self.a @ self.b).t()


class Twice(nn.Linear):
    """One weight for different numbers of rows."""

    def forward(self, x):
        return super().forward(torch.cat([x.sin(), x / 2])).unflatten(0, (2, -1)).sum(0) + super().forward(x)


class Turned(nn.Linear):
    """A permutation that does nothing, and one that transposes."""

    def __init__(self, *sizes):
        super().__init__(*sizes, bias=False)

    def forward(self, x):
        return x @ self.weight.permute(0, 1) + x @ self.weight.permute(1, 0)


class OneBias(nn.Linear):
    """A bias that all outputs share."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.bias = nn.Parameter(torch.ones(1))


@pytest.mark.parametrize("connection", [LowRank, Twice, Turned, OneBias])
def test_products_that_look_like_others(connection):
    torch.manual_seed(1)
    sizes = (512,) if connection is LowRank else (512, 512)
    check_against_eager(Weighted(connection(*sizes), 512).float(), spikes(8, 16, 512))


@pytest.mark.parametrize("batch", [(), pytest.param((1,), marks=pytest.mark.long), (2, 3)])
def test_products_with_any_number_of_batch_dimensions(batch):
    torch.manual_seed(1)
    net, xs = Weighted(nn.Linear(20, 20), 20), 3 * torch.randn(9, *batch, 20)
    for _ in range(2):
        check_against_eager(net, xs)
    check_against_eager(nd.Recurrent(nd.LIF(20, learn="tau"), nn.Linear(20, 20)), xs)


def test_gradients_of_a_large_linear_are_like_those_of_torch():
    net, xs = nn.Sequential(nd.LIF(256), nn.Linear(256, 256)).float(), torch.randn(80, 4, 256).float()
    y, parameters = nd.unroll(net, xs), list(net[1].parameters())
    assert all(grad.is_contiguous() for grad in torch.autograd.grad(y.sum(), parameters, retain_graph=True))
    directions = torch.randn(3, *y.shape).float()
    batched = torch.autograd.grad(y, parameters, directions, is_grads_batched=True, retain_graph=True)
    for i, direction in enumerate(directions):
        for one, found in zip(torch.autograd.grad(y, parameters, direction, retain_graph=True), batched, strict=True):
            torch.testing.assert_close(found[i], one, rtol=1e-4, atol=1e-3)


def test_a_large_linear_in_a_trace():
    """Rows are counted, and zeros in tensors without values are not looked for."""
    with Sizes(()).mode:
        layer = nn.Linear(256, 256, dtype=torch.float32)
        x = torch.empty(320, 256, dtype=torch.float32)
        assert linear(layer, x).shape == x.shape


def test_tensors_that_the_kernels_do_not_take():
    x = torch.zeros(0, 150)
    assert torch.ops.neurodyn.outer([x], [torch.zeros(0, 140)]).equal(torch.zeros(150, 140))
    assert torch.ops.neurodyn.linear(x.float(), torch.zeros(140, 150).float(), None, look=True).shape == (0, 140)
    x, g = spikes(20, 150).double(), torch.randn(20, 140)
    close(torch.ops.neurodyn.outer([x, x[:7]], [g, g[:7]]), x.T @ g + x[:7].T @ g[:7])
    close(torch.ops.neurodyn.linear(x, g.T @ x, None, look=True), x @ (x.T @ g))


def test_a_hook_on_a_large_linear_is_called(unsaid):
    net, called = nn.Sequential(nn.Linear(512, 512), nd.LIF(512)), []
    net.float()[0].register_forward_hook(lambda *call: called.append(call))
    with pytest.warns(nd.EagerWarning, match="hooks"):
        nd.unroll(net, torch.randn(20, 4, 512, dtype=torch.float32))
    assert len(called) == 20
