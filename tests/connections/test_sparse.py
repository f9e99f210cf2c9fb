"""Sparse connections against dense matrices: values, gradients, structure, errors."""

from __future__ import annotations

import numpy as np
import pint
import pytest
import scipy.sparse
import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.connections import PlainTorchWarning
from neurodyn.engine import program_cache
from neurodyn.ops import event, event_plain, native


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(connection: nd.Sparse) -> Tensor:
    """The matrix ``(pre, post)``."""
    with torch.no_grad():
        return connection(torch.eye(connection.in_size[0], dtype=connection.weight.dtype))


def pattern(connection: nd.Sparse) -> Tensor:
    counts = torch.zeros(connection.in_size[0], connection.out_size[0])
    source = torch.repeat_interleave(connection.indptr.diff())
    return counts.index_put((source, connection.indices.long()), torch.ones(()), accumulate=True)


def spikes(*shape: int) -> Tensor:
    """Graded events, mostly none."""
    return torch.rand(shape) * (torch.rand(shape) < 0.3)


MATRIX = scipy.sparse.random_array((30, 20), density=0.2, rng=np.random.default_rng(0), format="csc")


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "torch", "pairs", "quantity"])
@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_product(kind: str, batch: tuple[int, ...]) -> None:
    coo = MATRIX.tocoo()
    if kind == "torch":
        connection = nd.Sparse(torch.tensor(MATRIX.toarray()).to_sparse())
    elif kind == "pairs":
        connection = nd.Sparse(coo.coords, (30, 20), weight=coo.data)
    elif kind == "quantity":
        connection = nd.Sparse(u.quantity(MATRIX, "pS"))
        assert connection.unit == u.nS
    else:
        connection = nd.Sparse(getattr(MATRIX, f"to{kind}")())
    x = spikes(*batch, 30)
    wanted = x @ torch.tensor(MATRIX.toarray()) * (1e-3 if kind == "quantity" else 1)
    assert (connection(x) - wanted).abs().max() < 1e-14
    assert torch.equal(connection(x > 0), connection((x > 0).double()))


def test_twice_the_same_pair_makes_two_synapses() -> None:
    connection = nd.Sparse(([1, 0, 1], [2, 0, 2]), (3, 3), weight=[1.0, 2.0, 4.0])
    assert dense(connection).tolist() == [[2.0, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]]


def test_populations_of_several_dimensions() -> None:
    connection = nd.FixedProb((3, 4), (5, 2), 0.5, weight=1.0, generator=generator())
    x = spikes(7, 3, 4)
    flat = nd.FixedProb(12, 10, 0.5, weight=1.0, generator=generator())
    assert torch.equal(connection(x), flat(x.flatten(1)).view(7, 5, 2))


@pytest.mark.parametrize("scalar", [True, False])
@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 3, 6)])
def test_gradients(scalar: bool, shape: tuple[int, ...]) -> None:
    weight = 0.7 if scalar else nd.init.Normal(0.0, 1.0, generator(1))
    connection = nd.FixedProb(6, 5, 0.4, weight=weight, generator=generator(), learn="weight")
    x = spikes(*shape).requires_grad_()
    matrix = [connection.indptr, connection.indices, 5]
    check = (lambda x, w: event.matmul(x, w, *matrix)), (x, connection.weight)
    assert torch.autograd.gradcheck(*check)
    assert torch.autograd.gradgradcheck(*check)
    # Silent inputs get their gradient, too.
    (found,) = torch.autograd.grad(connection(x).sum(), x)
    assert (found - dense(connection).sum(1)).abs().max() < 1e-14


def test_torch_func() -> None:
    connection = nd.FixedProb(6, 5, 0.4, weight=nd.init.Normal(0.0, 1.0), generator=generator())
    matrix = [connection.indptr, connection.indices, 5]
    x, weight = spikes(3, 6), torch.rand(4, len(connection.indices))
    each = torch.vmap(lambda w: event.matmul(x, w, *matrix))(weight)
    assert torch.equal(each, torch.stack([event.matmul(x, w, *matrix) for w in weight]))
    each = torch.vmap(lambda row: event.matmul(row, weight[0], *matrix))(x)
    assert torch.equal(each, event.matmul(x, weight[0], *matrix))
    ensemble = torch.vmap(torch.func.grad(lambda w: event.matmul(x, w, *matrix).square().sum()))(weight)
    for w, found in zip(weight, ensemble, strict=True):
        wanted = torch.func.grad(lambda w: event.matmul(x, w, *matrix).square().sum())(w)
        assert (found - wanted).abs().max() < 1e-14


def test_operators_keep_their_contract() -> None:
    connection = nd.FixedProb(6, 5, 0.4, weight=nd.init.Normal(0.0, 1.0), generator=generator())
    matrix, ops = (connection.indptr, connection.indices), torch.ops.neurodyn
    for weight in (connection.weight, torch.tensor(0.5)):
        torch.library.opcheck(ops.event_matmul, (spikes(3, 6), weight, *matrix, 5))
        torch.library.opcheck(ops.event_input_grad, (torch.rand(3, 5), weight, *matrix))
    torch.library.opcheck(ops.event_weight_grad, (spikes(3, 6), torch.rand(3, 5), *matrix))


def test_plain_torch_gives_the_same_numbers() -> None:
    connection = nd.FixedProb(40, 30, 0.2, weight=nd.init.Normal(0.0, 1.0), generator=generator())
    matrix = (connection.indptr, connection.indices)
    for weight in (connection.weight, torch.tensor(0.5)):
        for x in (spikes(40), spikes(2, 3, 40), torch.zeros(40)):
            y = event_plain.matmul(x, weight, *matrix, 30)
            assert (y - event.matmul(x, weight, *matrix, 30)).abs().max() < 1e-14
        g = torch.rand(3, 30)
        wanted = torch.ops.neurodyn.event_input_grad(g, weight, *matrix)
        assert (event_plain.input_grad(g, weight, *matrix) - wanted).abs().max() < 1e-14
    x, g = spikes(3, 40), torch.rand(3, 30)
    wanted = torch.ops.neurodyn.event_weight_grad(x, g, *matrix)
    assert (event_plain.weight_grad(x, g, *matrix) - wanted).abs().max() < 1e-14
    assert torch.equal(event.nonzero(x), x.flatten().nonzero().squeeze(1))


def test_without_a_compiler_it_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(path) -> None:
        raise native.NotAvailable("no g++ here")

    monkeypatch.setattr(event, "_asked", False)
    monkeypatch.setattr(native, "load", no_compiler)
    with pytest.warns(PlainTorchWarning, match="no g\\+\\+ here"):
        nd.FixedProb(4, 4, 0.5, weight=1.0)
    nd.FixedProb(4, 4, 0.5, weight=1.0)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_compiles_without_a_break() -> None:
    connection = nd.FixedProb(6, 5, 0.4, weight=nd.init.Normal(0.0, 1.0), generator=generator(), learn="weight")
    x = spikes(3, 6).requires_grad_()
    loss = lambda x: connection(2 * x).square().sum()  # noqa: E731
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(x), (x, connection.weight))
    wanted = torch.autograd.grad(loss(x), (x, connection.weight))
    assert all((f - w).abs().max() < 1e-13 for f, w in zip(found, wanted, strict=True))


def test_another_network_of_the_same_kind_compiles_nothing_new() -> None:
    """The number of synapses is not part of a compiled program."""
    x = spikes(8, 3, 6).requires_grad_()
    known: list[int] = []
    for seed in range(3):
        random = generator(seed)
        options = {"weight": nd.init.Normal(0.5, 0.5, random), "learn": "weight", "generator": random}
        net = nn.Sequential(nd.FixedProb(6, 5, 0.4, **options), nd.LIF(5))
        loop = nd.Recurrent(nd.Expon(6), nn.Sequential(net, nn.Linear(5, 6)))
        found = []
        for compile in (True, False):
            ys = nd.unroll(loop, x, compile=compile)
            found.append((ys, *torch.autograd.grad(ys.square().sum(), (x, net[0].weight))))
        assert all((f - w).abs().max() < 1e-12 for f, w in zip(*found, strict=True))
        known.append(program_cache.how_many())
    assert known[0] == known[1] == known[2]


def test_fixed_prob_connects_each_pair_with_the_same_probability() -> None:
    n, m, p, trials = 5, 4, 0.3, 4000
    total = sum(pattern(nd.FixedProb(n, m, p, weight=1.0, generator=generator(s))) for s in range(trials))
    assert ((total / trials - p).abs() < 5 * (p * (1 - p) / trials) ** 0.5).all()
    big = nd.FixedProb(2000, 3000, 0.01, weight=1.0, generator=generator())
    assert abs(len(big.indices) - 60000) < 5 * (60000 * 0.99) ** 0.5
    assert pattern(big).max() == 1
    assert pattern(nd.FixedProb(50, 50, 0.5, weight=1.0, include_self=False, generator=generator())).trace() == 0
    assert pattern(nd.FixedProb(5, 7, 1.0, weight=1.0)).min() == 1
    assert len(nd.FixedProb(5, 7, 0.0, weight=1.0).indices) == 0
    assert nd.FixedProb(5, 7, 0.0, weight=1.0)(torch.ones(5)).tolist() == [0.0] * 7


@pytest.mark.parametrize("num", [0, 1, 3, 7, 9])
def test_fixed_num(num: int) -> None:
    rows = pattern(nd.FixedNum(10, 9, num, weight=1.0, generator=generator()))
    assert rows.sum(1).tolist() == [num] * 10
    columns = pattern(nd.FixedNum(9, 10, num, weight=1.0, per="post", generator=generator()))
    assert columns.sum(0).tolist() == [num] * 10
    alone = pattern(nd.FixedNum(10, 10, num, weight=1.0, include_self=False, generator=generator()))
    assert alone.sum(1).tolist() == [num] * 10
    assert alone.trace() == 0
    assert max(rows.max(), columns.max(), alone.max()) <= 1


def test_fixed_num_draws_each_partner_with_the_same_probability() -> None:
    trials = 3000
    for num in (2, 4):
        total = sum(pattern(nd.FixedNum(4, 6, num, weight=1.0, generator=generator(s))) for s in range(trials))
        p = num / 6
        assert ((total / trials - p).abs() < 5 * (p * (1 - p) / trials) ** 0.5).all()


def test_the_same_generator_gives_the_same_network() -> None:
    for build in (
        lambda seed: nd.FixedProb(
            50, 60, 0.2, weight=nd.init.Normal(0.0, 1.0, generator(seed)), generator=generator(seed)
        ),
        lambda seed: nd.FixedNum(50, 60, 7, weight=1.0, per="post", generator=generator(seed)),
    ):
        assert torch.equal(dense(build(3)), dense(build(3)))
        assert not torch.equal(dense(build(3)), dense(build(4)))


def test_memory_of_a_scalar_weight() -> None:
    connection = nd.FixedProb(1000, 1000, 0.1, weight=0.6 * u.nS)
    assert sum(b.nbytes for b in connection.buffers()) / len(connection.indices) < 4.1


def test_saved_and_loaded() -> None:
    first = nd.FixedProb(20, 20, 0.2, weight=1.0, generator=generator(1))
    other = nd.FixedNum(20, 20, 4, weight=1.0)
    loaded = nd.Sparse(([0] * len(first.indices), [0] * len(first.indices)), (20, 20), weight=0.0)
    loaded.load_state_dict(first.state_dict())
    assert torch.equal(dense(loaded), dense(first))
    other.load_state_dict(first.state_dict())
    assert torch.equal(dense(other), dense(first))
    with pytest.raises(RuntimeError, match=r"FixedNum\(21, 20\): indptr in the file is for 20 inputs, wanted 21"):
        nd.FixedNum(21, 20, 4, weight=1.0).load_state_dict(first.state_dict())


def delayed(x: Tensor, connection: nd.Sparse, steps: Tensor) -> Tensor:
    """The output of a connection with these delays, synapse by synapse."""
    y = torch.zeros(*x.shape[:-1], connection.out_size[0])
    source = torch.repeat_interleave(connection.indptr.diff())
    weight = connection.weight.expand(len(source))
    for k, (i, j, d) in enumerate(zip(source, connection.indices, steps, strict=True)):
        before, late = int(d), d - int(d)
        for lag, part in ((before, 1 - late), (before + 1, late)):
            if part:
                y[lag:, ..., j] += (part * weight[k] * x[: len(x) - lag, ..., i]).detach()
    return y


@pytest.mark.parametrize("batch", [(), (3,)])
def test_delays_of_synapses(batch: tuple[int, ...]) -> None:
    options = {"weight": nd.init.Normal(0.0, 1.0, generator(1)), "generator": generator()}
    plain = nd.FixedProb(6, 5, 0.5, **options)
    options["generator"].manual_seed(0)
    options["weight"] = plain.weight
    steps = torch.randint(1, 5, (len(plain.indices),), generator=generator())
    x = spikes(12, *batch, 6)
    late = nd.FixedProb(6, 5, 0.5, delay=steps * u.ms, **options)
    wanted = delayed(x, plain, steps.double())
    assert (nd.unroll(late, x, compile=False) - wanted).abs().max() < 1e-14

    nd.reset_states(late, *batch)
    for row, y in zip(x, wanted, strict=True):
        assert (late.read() - y).abs().max() < 1e-14
        late(row)

    options["generator"].manual_seed(0)
    between = nd.FixedProb(6, 5, 0.5, delay=(steps + 0.3) * u.ms, interpolation="linear", **options)
    assert (nd.unroll(between, x, compile=False) - delayed(x, plain, steps + 0.3)).abs().max() < 1e-13


def test_gradient_of_learned_delays_of_synapses() -> None:
    connection = nd.FixedProb(
        4,
        3,
        0.6,
        weight=nd.init.Normal(0.0, 1.0, generator(1)),
        delay=nd.init.Uniform(1.1 * u.ms, 1.9 * u.ms, generator(2)),
        interpolation="linear",
        learn=("weight", "delay"),
        generator=generator(),
    )
    x = torch.rand(8, 2, 4)
    target = torch.rand(8, 2, 3)

    def loss(raw: Tensor, weight: Tensor) -> Tensor:
        nd.reset_states(connection, 2)
        named = {"net.delays.raw_delay": raw, "net.weight": weight}
        return (torch.func.functional_call(Loop(connection), named, (x,)) * target).sum()

    values = [p.detach().requires_grad_() for p in (connection.delays.raw_delay, connection.weight)]
    assert torch.autograd.gradcheck(loss, values)


class Loop(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(row) for row in x])


class Trained(nn.Module):
    """A recurrent network with short-term plasticity."""

    def __init__(self, n: int, recurrent: nn.Module):
        super().__init__()
        self.inward = nn.Linear(20, n, bias=False)
        self.inward.weight = nn.Parameter(torch.rand(n, 20, generator=generator(2)))
        self.recurrent = recurrent
        self.stp, self.delay, self.synapse = nd.STP(n, U=0.4), nd.Delay(n, 2 * u.ms), nd.Expon(n)
        self.lif = nd.LIF(n, tau=10 * u.ms, R=1 * u.Gohm, surrogate=nd.surrogate.ReluGrad())

    def forward(self, x: Tensor) -> Tensor:
        s = self.lif(self.inward(x) + self.synapse(self.recurrent(self.stp(self.delay.read()))))
        self.delay(s)
        return s

    def loss(self, xs: Tensor) -> Tensor:
        return (nd.unroll(self, xs, compile=False).mean(0) - 0.1).square().mean()


def test_trained_through_time_as_the_masked_dense_network() -> None:
    """1,000 neurons, 200 steps: loss and every gradient are those of a masked matrix, and the loss falls."""
    n = 1000
    weight = nd.init.Normal(0.0, 0.1, generator(1))
    sparse = nd.FixedProb(n, n, 0.1, weight=weight, generator=generator(), learn="weight")
    masked = nn.Linear(n, n, bias=False)
    masked.weight = nn.Parameter(dense(sparse).T.contiguous())
    x = 3 * spikes(200, 20)
    nets = Trained(n, sparse), Trained(n, masked)
    losses = [net.loss(x) for net in nets]
    (inward, found), (wanted_inward, wanted) = (
        torch.autograd.grad(loss, (net.inward.weight, net.recurrent.weight))
        for loss, net in zip(losses, nets, strict=True)
    )
    wanted = wanted[sparse.post_index.long(), sparse.pre_index]  # those outside the mask are not trained
    assert (losses[0] - losses[1]).abs() < 1e-12
    assert (inward - wanted_inward).abs().max() < 1e-10 * wanted_inward.abs().max()
    assert (found - wanted).abs().max() < 1e-10 * wanted.abs().max()
    assert wanted.count_nonzero() > 0.5 * len(wanted)

    optimiser = torch.optim.Adam(nets[0].parameters(), 0.01)
    for _ in range(5):
        optimiser.zero_grad()
        nets[0].loss(x).backward()
        optimiser.step()
    assert nets[0].loss(x) < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("build", "error", "words"),
    [
        (lambda: nd.FixedProb(4, 4, 2, weight=1.0), ValueError, "prob must lie between 0 and 1, got 2"),
        (lambda: nd.FixedProb(4, 4, -0.1, weight=1.0), ValueError, "prob must lie between 0 and 1"),
        (lambda: nd.FixedProb(4, 5, 0.1, weight=1.0, include_self=False), ValueError, "include_self=False"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1 * u.ms), pint.DimensionalityError, "weight is a number, or in nS"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1.0, delay=-1 * u.ms), ValueError, "delay must be zero or positive"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1.0, delay=0.5 * u.ms), ValueError, "no multiple of dt"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1.0, learn="wieght"), TypeError, "'wieght'"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1.0, learn="delay"), TypeError, "'delay' if given"),
        (lambda: nd.FixedProb(4, 4, 1.0, weight=torch.ones(3)), ValueError, "weight has shape"),
        (lambda: nd.FixedNum(4, 4, 5, weight=1.0), ValueError, "num must be a whole number from 0 to 4"),
        (lambda: nd.FixedNum(4, 4, 2.5, weight=1.0), ValueError, "whole number"),
        (lambda: nd.FixedNum(4, 4, 2, weight=1.0, per="row"), ValueError, "'pre' or 'post'"),
        (lambda: nd.Sparse(([0, 4], [1, 2]), (4, 4), weight=1.0), ValueError, "pre index 4 is out of range"),
        (lambda: nd.Sparse(([0, 1], [1, -1]), (4, 4), weight=1.0), ValueError, "post index -1 is out of range"),
        (lambda: nd.Sparse(([0, 1], [1]), (4, 4), weight=1.0), ValueError, "2 pre indices and 1 post indices"),
        (lambda: nd.Sparse(([0.5], [1]), (4, 4), weight=1.0), TypeError, "integers"),
        (lambda: nd.Sparse(([0], [1]), weight=1.0), TypeError, "size="),
        (lambda: nd.Sparse(([0], [1]), (4, 4)), TypeError, "weight is required"),
        (lambda: nd.Sparse(([1, 0], [1, 1]), (4, 4), weight=[1.0, 2.0, 3.0]), ValueError, "3 values for 2 synapses"),
        (
            lambda: nd.Sparse(([1, 0], [1, 1]), (4, 4), weight=nn.Parameter(torch.ones(2))),
            ValueError,
            "sorted by pre index",
        ),
        (lambda: nd.Sparse(MATRIX, (30, 21)), ValueError, "the matrix has shape"),
        (lambda: nd.Sparse(torch.ones(3, 3)), TypeError, "sparse"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1.0)(torch.ones(5)), ValueError, r"wanted \(\*batch, 4\)"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1.0)(torch.ones(4).float()), TypeError, "torch.float32"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1.0).read(), TypeError, "no delays"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1.0, delay=1 * u.ms).read(), nd.UnsetState, "reset_states"),
        (lambda: nd.FixedProb(4, 4, 0.5, weight=1.0, delay=0 * u.ms).read(), ValueError, "at least dt"),
    ],
)
def test_errors(build, error, words) -> None:
    with pytest.raises(error, match=words):
        build()


def test_the_meta_device_is_refused():
    for make in (lambda: nd.FixedProb(6, 4, 0.5, weight=1.0), lambda: nd.FixedNum(6, 4, 2, weight=1.0)):
        with torch.device("meta"), pytest.raises(ValueError, match=r"Fixed\w+: .* cannot be built on the meta device"):
            make()
    with pytest.raises(ValueError, match=r"Sparse: .* meta device"):
        nd.Sparse(([0, 1], [1, 2]), (3, 4), weight=1.0, device="meta")
