"""On an NVIDIA GPU the same numbers as on the CPU, on every path; skipped where there is none."""

from __future__ import annotations

import copy
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import composed
import pytest
import torch
from catalogue import BESIDE, Model
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import cuda_graphs
from neurodyn.engine.kernel_loop import Recording
from neurodyn.examples import vogels_abbott
from neurodyn.run import input_rows

#: A generator of the CPU and one of the GPU draw different masks.
REPEATABLE = [model for model in BESIDE if model.name != "FixedDropout"]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")


@pytest.fixture(autouse=True)
def _compiled() -> Any:
    """What falls back to Python fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", nd.EagerWarning)
        warnings.filterwarnings("ignore", "TensorFloat32|The CUDA Graph is empty")  # of torch's own CUDA graphs
        yield


def outcome(net: nn.Module, xs: Tensor, **options: Any) -> list[Tensor]:
    """Outputs, final states and all gradients, on the CPU."""
    xs = xs.clone().requires_grad_()
    ys, states = nd.unroll(net, xs, return_states=True, **options)
    weight = torch.linspace(-1, 1, ys.numel(), dtype=ys.dtype).view_as(ys).to(ys.device)
    loss = (ys * weight).sum() + sum((state * state.detach().cos()).sum() for state in states.values())
    grads = torch.autograd.grad(loss, [xs, *net.parameters()], allow_unused=True)
    found = [ys, *states.values(), *(grad for grad in grads if grad is not None)]
    return [value.detach().cpu() for value in found]


def assert_same(found: list[Tensor], wanted: list[Tensor], tolerance: float = 1e-9) -> None:
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(b.abs().max()) if b.numel() else 0)


def assert_as_on_the_cpu(net: nn.Module, xs: Tensor, **options: Any) -> None:
    """By the first call, in which torch launches kernels, and by later ones, which launch them without Python."""
    there, wanted = copy.deepcopy(net).cuda(), outcome(net, xs, compile=False)
    for _ in range(4):  # as it comes, noted, and run again
        assert_same(outcome(there, xs.cuda(), **options), wanted)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each time that kernels were to be launched without Python, whether they were."""
    found, call = [], Recording.run

    def called(*arguments: Any) -> bool:
        found.append(call(*arguments))
        return found[-1]

    monkeypatch.setattr(Recording, "run", called)
    return found


def test_every_model(model: Model) -> None:
    learned = [name for name, p in model(5).params.items() if p.learnable and name not in model.fixed]
    assert_as_on_the_cpu(model(5, learn=tuple(learned)), model.input(8, 2, 5))


@pytest.mark.parametrize(("size", "aligned"), [(8, True), (5, False)])
def test_kernels_are_launched_without_python(launched: list[bool], size: int, aligned: bool) -> None:
    """Unless a step begins in the middle of 16 bytes."""
    net = nn.Sequential(nd.Expon(size, learn="tau"), nd.LIF(size, learn=("tau", "V_th")))
    assert_as_on_the_cpu(net, 4 * torch.rand(17, 3, size))
    assert launched
    assert all(each == aligned for each in launched)


def test_kernels_from_another_thread(launched: list[bool]) -> None:
    net, xs = nd.LIF(8, learn="tau"), 4 * torch.rand(8, 4, 8)
    assert_as_on_the_cpu(net, xs)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(assert_as_on_the_cpu, net, xs).result()
    assert any(launched)


@pytest.mark.parametrize("model", REPEATABLE, ids=lambda model: model.name)
def test_every_other_layer(model: Model) -> None:
    assert_as_on_the_cpu(model(4), model.input(11, 3, 3 if "Cell" in model.name or "Readout" in model.name else 4))


@pytest.mark.parametrize("options", [{}, {"checkpoint": 8}, {"compile": False}], ids=str)
def test_a_network(options: dict[str, Any]) -> None:
    assert_as_on_the_cpu(composed.composed(), composed.inputs(21, 4), **options)


@pytest.mark.parametrize("homogeneous", [True, False])
def test_sparse_connections(homogeneous: bool) -> None:
    random = torch.Generator().manual_seed(0)
    weight = 0.5 if homogeneous else nd.init.Normal(0.5, 0.2, random)
    net = nn.Sequential(
        nd.LIF(200),
        nd.Projection(
            nd.FixedProb(200, 150, 0.1, weight=weight, learn="weight", generator=random),
            synapse=nd.Expon(150),
            output=nd.CUBA(),
        ),
        nd.LIF(150),
    )
    xs = 3 * torch.rand(12, 4, 200)
    assert nd.unroll(net, xs).sum() > 100
    assert_as_on_the_cpu(net, xs)


def graphs() -> int:
    return sum(graph is not None for graph in cuda_graphs._graphs.values())


def test_sequences_in_graphs() -> None:
    """From the second call on; a graph sees new inputs, new parameters, and what other calls have in flight."""
    cuda_graphs._graphs.clear()
    net = composed.composed()
    there = copy.deepcopy(net).cuda()
    for seed in range(5):
        xs = composed.inputs(48, 4, seed=seed)
        assert_same(outcome(there, xs.cuda()), outcome(net, xs, compile=False))
        with torch.no_grad():
            for parameter in (*net.parameters(), *there.parameters()):
                parameter.mul_(1.01)
    assert graphs() >= 4
    losses = [[], []]
    for seed in range(2):
        for where, model, device in ((0, net, "cpu"), (1, there, "cuda")):
            xs = composed.inputs(48, 4, seed=seed).to(device)
            losses[where].append(nd.unroll(model, xs, compile=device == "cuda").square().sum())
    found = [torch.autograd.grad(sum(each), list(m.parameters())) for each, m in zip(losses, (net, there), strict=True)]
    assert_same([grad.cpu() for grad in found[1]], list(found[0]))


def test_two_layers_of_a_kind_share_a_graph() -> None:
    net = nn.Sequential(nd.LIF(6), nn.Linear(6, 6), nd.LIF(6), nn.Linear(6, 6), nd.LIF(6))
    for seed in range(4):
        torch.manual_seed(seed)
        assert_as_on_the_cpu(net, 4 * torch.rand(64, 3, 6))


def test_the_same_bits_in_every_run() -> None:
    """In a graph and without one."""
    net, xs = nd.LIF(33, learn=("tau", "V_th"), dtype=torch.float32).cuda(), 3 * torch.rand(64, 5, 33).float().cuda()
    runs = [outcome(net, xs) for _ in range(5)]
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))


def test_a_graph_in_inference_mode_and_out_of_it() -> None:
    net, xs = nd.LIF(6), 3 * torch.rand(64, 3, 6)
    there, wanted = copy.deepcopy(net).cuda(), nd.unroll(net, xs, compile=False)
    for mode in 3 * [torch.inference_mode, torch.no_grad, torch.enable_grad]:
        with mode():
            assert_same([nd.unroll(there, xs.cuda()).cpu()], [wanted])


def test_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """COBA: every spike of 100 ms, most of them from a graph."""
    monkeypatch.setattr(input_rows, "_LONGEST_BLOCK", 100)
    cuda_graphs._graphs.clear()
    spikes = []
    for device in ("cpu", "cuda"):
        net = vogels_abbott.coba(0.25, dtype=torch.float64).to(device)
        spikes.append(vogels_abbott.run(net, 100 * u.ms, progress=False)["spikes"])
    here, there = spikes
    assert graphs() > 0
    assert len(here.steps) > 500
    assert torch.equal(here.steps, there.steps.cpu())
    assert torch.equal(here.neurons, there.neurons.cpu())


def test_a_stream() -> None:
    net = composed.composed()
    xs, there = composed.inputs(9, 2), copy.deepcopy(net).cuda()
    step = nd.Stream(there, xs[0].cuda())
    with torch.no_grad():
        wanted = nd.unroll(net, xs, compile=False)
    assert_same([step(x).cpu() for x in xs.cuda()], list(wanted))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast(dtype: torch.dtype) -> None:
    """Products in 16 bits, states in float32; the scaler finds the gradients finite."""
    net = composed.composed(dtype=torch.float32).cuda()
    xs = composed.inputs(21, 4, dtype=torch.float32).cuda()
    optimizer, scaler = torch.optim.SGD(net.parameters(), 1e-3), torch.amp.GradScaler("cuda", init_scale=16.0)
    before = [p.detach().clone() for p in net.parameters()]
    with torch.autocast("cuda", dtype):
        loss = nd.unroll(net, xs).square().mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 16.0
    assert all(state.dtype == torch.float32 for state in nd.get_states(net).values())
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_half_inputs() -> None:
    net = nd.LIF(64, dtype=torch.float32)
    xs = (3 * torch.rand(20, 8, 64)).half()
    assert_same(outcome(copy.deepcopy(net).cuda(), xs.cuda()), outcome(net, xs, compile=False), 2e-3)


def test_reduce_overhead() -> None:
    """A user's torch.compile with CUDA graphs."""
    net = composed.composed(dtype=torch.float32).cuda()
    xs = composed.inputs(6, 4, dtype=torch.float32).cuda()
    compiled = torch.compile(nd.Unroll(net), mode="reduce-overhead")
    with torch.no_grad():
        wanted = nd.unroll(net, xs)
        for _ in range(4):
            torch.testing.assert_close(compiled(xs).clone(), wanted, rtol=1e-4, atol=1e-5)


def test_a_training_step_in_a_cuda_graph() -> None:
    """Captured once, the whole step is replayed for new inputs, without Python in between."""
    net = composed.composed(dtype=torch.float32).cuda()
    twin = copy.deepcopy(net)
    xs = composed.inputs(21, 4, dtype=torch.float32).cuda()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = nd.unroll(net, xs).square().mean()
        loss.backward()
        return loss

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    other = composed.inputs(21, 4, seed=1, dtype=torch.float32).cuda()
    xs.copy_(other)
    graph.replay()
    wanted = nd.unroll(twin, other).square().mean()
    wanted.backward()
    torch.testing.assert_close(loss, wanted)
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6)


def test_an_input_on_another_device_is_told() -> None:
    net = nd.LIF(3).cuda()
    nd.reset_states(net, 2)
    with pytest.raises(RuntimeError, match=r"the input is on cpu and V on cuda:0.*\.to\("):
        net(torch.rand(2, 3))
    with pytest.raises(RuntimeError, match=r"on cpu|cuda"):
        nd.unroll(net, torch.rand(4, 2, 3))
