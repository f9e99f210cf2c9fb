"""How many threads a chunk is given, and that what it gives does not depend on them."""

import pytest
import torch
from test_unroll import assert_same, outcome
from torch import nn

import neurodyn as nd
from neurodyn.engine import replay, tape
from neurodyn.engine.threads import Work
from neurodyn.engine.trace import Layout, trace

pytestmark = pytest.mark.usefixtures("no_programs")


@pytest.fixture
def threads():
    """Set the number of threads; it is set back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def given(monkeypatch):
    """How many threads chunks were worth."""
    found = []

    class Seen(replay.Plan):
        def call(self, *arguments):
            found.append(self.threads)
            return super().call(*arguments)

    monkeypatch.setattr(tape, "Plan", Seen)
    return found


def learned(size):
    return nn.Sequential(nd.LIF(size, learn=("tau", "V_th")), nd.Expon(size, learn="tau"))


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_a_program_is_right_for_other_threads_than_it_was_compiled_with(threads, first, second):
    net, xs = learned(96), 40 * torch.rand(17, 31, 96)
    threads(first)
    nd.unroll(net, xs[:, :2].clone().requires_grad_()).sum().backward()
    threads(second)
    assert_same(outcome(net, xs), outcome(net, xs, compile=False))
    assert torch.get_num_threads() == second


def test_threads_follow_from_the_work(given, threads):
    threads(2)
    layer = nd.LIF(8)
    for batch in (1, 4, 2**16):
        nd.unroll(layer, torch.rand(8, batch, 8))
    one, four, many = given
    assert one == four == 1
    assert many > 16


def work(function, *shapes):
    kinds = [(Layout(shape, torch.float32, torch.device("cpu")), ()) for shape in shapes]
    graph, inputs, _ = trace(function, (2,), kinds)
    return Work(graph, inputs)


def test_work_grows_with_the_free_sizes():
    twice = work(lambda xs: [2 * xs[0] + xs[1]], (-1, 1024), (1024,))
    assert [twice.threads([torch.empty(n, 1024), torch.empty(1024)]) for n in (1, 64, 256, 512)] == [1, 1, 4, 8]
    slow = work(lambda xs: [xs[0].exp()], (-1, 1024))
    assert slow.threads([torch.empty(256, 1024)]) == 16
    product = work(lambda xs: [xs[0] @ xs[1]], (-1, 512), (512, 512))
    assert [product.threads([torch.empty(n, 512), torch.empty(512, 512)]) for n in (1, 64)] == [2, 128]
