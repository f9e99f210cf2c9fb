"""How many threads a chunk is given, and that what it gives does not depend on them."""

import pytest
import torch
from paths import assert_as_plain
from torch import nn

import neurodyn as nd
from neurodyn.engine import kernel_loop
from neurodyn.engine.threads import Work
from neurodyn.engine.tracing import Layout
from neurodyn.torch_private import Sizes, traced

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
    found, record = [], kernel_loop.record
    monkeypatch.setattr(kernel_loop, "record", lambda *of: found.append(of[2]) or record(*of))
    return found


def learned(size):
    return nn.Sequential(nd.LIF(size, learn=("tau", "V_th")), nd.Expon(size, learn="tau"))


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1)])
def test_a_program_is_right_for_other_threads_than_it_was_compiled_with(threads, first, second):
    net, xs = learned(96), 40 * torch.rand(17, 31, 96)
    threads(first)
    nd.unroll(net, xs[:, :2].clone().requires_grad_()).sum().backward()
    threads(second)
    assert_as_plain(net, xs)
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
    """Of a function of float32 tensors, where -1 stands for a free size."""
    free = Sizes((2,))
    with free.mode:
        inputs = [Layout(shape, torch.float32, torch.device("cpu")).empty(free.sizes) for shape in shapes]
        graph = traced(function, inputs, decompose=True).graph
    found = Work(graph, free.symbols)
    return lambda *sizes: [found.threads((n,)) for n in sizes]


def test_work_grows_with_the_free_sizes():
    assert work(lambda x, y: 2 * x + y, (-1, 1024), (1024,))(1, 64, 256, 512) == [1, 1, 4, 8]
    assert work(lambda x: x.exp(), (-1, 1024))(256) == [16]
    assert work(lambda x, y: x @ y, (-1, 512), (512, 512))(1, 64) == [2, 128]
