"""A program proves itself at its first call: a wrong one is not used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from paths import assert_equal, outcome
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.engine import chunk_graphs, compiled_chunk, program_cache, proof

pytestmark = pytest.mark.usefixtures("no_programs", "unsaid")
aten = torch.ops.aten
XS = 3 * torch.rand(7, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def plant(monkeypatch: pytest.MonkeyPatch, group: str, by: float = 1e-3, last: bool = False) -> None:
    """Make what a chunk writes to a group wrong."""
    run = compiled_chunk.CompiledChunk.run

    def wrong(self: Any, tensors: Any, *given: Any, **options: Any) -> int:
        turn = run(self, tensors, *given, **options)
        for tensor in tensors.get(group, ()):
            if tensor.is_floating_point():
                (tensor[-1] if last else tensor).add_(by)
        return turn

    monkeypatch.setattr(compiled_chunk.CompiledChunk, "run", wrong)


def assert_caught(net: nn.Module, reason: str, xs: Tensor = XS) -> None:
    """The first call and the next ones are plain, and the first says why."""
    wanted = outcome(net, xs, compile=False)
    with pytest.warns(nd.EagerWarning, match=f"runs step by step in Python: its compiled {reason} differs from"):
        found = outcome(net, xs)
    assert_equal(found, wanted)
    assert_equal(outcome(net, xs), wanted)


@pytest.mark.parametrize(
    ("group", "reason"),
    [("outs", "output 0"), ("grad_xs", "gradient 2"), ("sums", "gradient 1"), ("grad_states", "gradient 0")],
)
def test_a_wrong_chunk(monkeypatch: pytest.MonkeyPatch, group: str, reason: str) -> None:
    """Of an output, and of gradients alone."""
    plant(monkeypatch, group)
    assert_caught(nd.Expon(4, learn="tau"), reason)


def test_a_wrong_final_state(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "new_states", last=True)
    assert_caught(nd.Expon(4, learn="tau"), "(output 0|state 0)")


@pytest.mark.parametrize("by", [float("nan"), float("inf"), 1.0])
def test_wrong_spikes_and_values_that_are_not_finite(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    plant(monkeypatch, "outs", by)
    assert_caught(nd.LIF(4, learn="tau"), "output 0")


def test_a_wrong_chunk_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "outs")
    net = nd.Expon(4)
    with torch.no_grad(), pytest.warns(nd.EagerWarning, match="output 0 differs"):
        found = nd.unroll(net, XS)
    assert torch.equal(found, nd.unroll(net, XS, compile=False))


def test_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "sums", 0.1)
    assert_caught(nd.Expon(4, learn="tau", dtype=torch.float32), "gradient 1", XS.float())


def swapped(old: Any, new: Any, nth: int = 0) -> Any:
    """A pass that makes one operator another."""

    def change(graph: torch.fx.Graph) -> None:
        nodes = [node for node in graph.nodes if node.target is old]
        if nodes:
            nodes[min(nth, len(nodes) - 1)].target = new

    return change


@pytest.mark.parametrize("swap", [(aten.mul.Tensor, aten.add.Tensor), (aten.add.Tensor, aten.sub.Tensor)], ids=str)
def test_a_wrong_pass(monkeypatch: pytest.MonkeyPatch, swap: tuple[Any, Any]) -> None:
    monkeypatch.setattr(chunk_graphs, "add_before_summing", swapped(*swap))
    net = nn.Sequential(nd.Expon(4, learn="tau"), nd.LeakyRateReadout(4, 3, learn="tau"))
    assert_caught(net, "(output|state|gradient) .")


def test_a_wrong_pass_of_the_backward_graph_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    original = chunk_graphs.backward_graph

    def wrong(*given: Any) -> Any:
        chunk = original(*given)
        swapped(aten.mul.Tensor, aten.add.Tensor)(chunk.graph)
        return chunk

    monkeypatch.setattr("neurodyn.engine.program.backward_graph", wrong)
    assert_caught(nd.Expon(4, learn="tau"), "gradient .")


def test_only_chunks_of_one_length_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are proven when a sequence first has some; what was right before is not used any more."""
    run = compiled_chunk.CompiledChunk.run

    def wrong(self: Any, tensors: Any, *given: Any, **options: Any) -> int:
        turn = run(self, tensors, *given, **options)
        if self.steps == 1:
            for out in tensors.get("outs", ()):
                out[-1] += 1
        return turn

    monkeypatch.setattr(compiled_chunk.CompiledChunk, "run", wrong)
    net = nd.Expon(4, learn="tau")
    assert_equal([nd.unroll(net, XS[:6])], [nd.unroll(net, XS[:6], compile=False)])
    with pytest.warns(nd.EagerWarning, match="output 0 differs"):
        found = nd.unroll(net, XS)
    assert_equal([found], [nd.unroll(net, XS, compile=False)])


def test_only_later_chunks_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    run = compiled_chunk.CompiledChunk.run

    def wrong(self: Any, tensors: Any, stretch: Any, *given: Any, **options: Any) -> int:
        turn = run(self, tensors, stretch, *given, **options)
        if len(stretch.chunks) > 1:
            for out in tensors.get("outs", ()):
                out[stretch.step] += 1
        return turn

    monkeypatch.setattr(compiled_chunk.CompiledChunk, "run", wrong)
    assert_caught(nd.Expon(4, learn="tau"), "output 0")


def test_simulate_and_stream_prove_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "outs")
    net, duration = nd.Expon(4), 7 * nd.units.ms
    with pytest.warns(nd.EagerWarning, match="simulate runs step by step in Python: its compiled output"):
        found = nd.simulate(net, duration, XS[:, 0], "output")["output"].values
    wanted = nd.simulate(net, duration, XS[:, 0], "output", compile=False)["output"].values
    assert torch.equal(found, wanted)
    nd.reset_states(net)
    with pytest.warns(nd.EagerWarning, match="Stream runs Expon in Python: its compiled output"):
        step = nd.Stream(net, XS[0, 0])
    ys = torch.stack([step(x) for x in XS[:, 0]])
    assert torch.equal(ys, wanted)


def test_rounding_at_the_threshold_is_no_difference(recwarn: pytest.WarningsRecorder) -> None:
    """Potentials that lie at the threshold up to rounding, for several steps."""
    net = nd.LIF(4, tau=10 * nd.units.ms, learn="tau")
    decay = torch.exp(torch.tensor(-0.1))
    outcome(net, torch.full((8, 2, 4), float(1 / (1 - decay))))
    assert not [warning for warning in recwarn if issubclass(warning.category, nd.EagerWarning)]


def test_a_program_is_proven_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loops, loop = [], proof._loop
    monkeypatch.setattr(proof, "_loop", lambda *given: loops.append(1) or loop(*given))
    net = nd.Expon(4, learn="tau")
    for _ in range(3):
        outcome(net, XS)
        outcome(nd.Expon(4, learn="tau"), XS)
    assert len(loops) == 1


def test_the_proof_leaves_nothing_behind() -> None:
    net = nn.Sequential(nd.Expon(4, learn="tau"), nd.LIF(4))
    random = torch.get_rng_state()
    nd.unroll(net, XS)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    program_cache.clear()
    _, states = nd.unroll(net, XS, return_states=True)
    assert_equal(states.values(), nd.get_states(net).values())


COST = """
import json, time, torch, neurodyn as nd
from neurodyn.engine import compiled_chunk
from neurodyn.loop import rows
spent = {"proof": 0.0, "compiling": 0.0}
def timed(name, function):
    def run(*given, **options):
        start = time.perf_counter()
        try:
            return function(*given, **options)
        finally:
            spent[name] += time.perf_counter() - start
    return run
inside = []
original = rows.prove
def prove(*given, **options):
    before = spent["compiling"]
    try:
        return timed("proof", original)(*given, **options)
    finally:
        spent["proof"] -= spent["compiling"] - before
rows.prove = prove
compiled_chunk.compiled = timed("compiling", compiled_chunk.compiled)
net = torch.nn.Sequential(nd.Expon(100, learn="tau"), nd.LIF(100, learn="tau"))
start = time.perf_counter()
nd.unroll(net, 3 * torch.rand(100, 8, 100)).sum().backward()
print(json.dumps([spent["proof"], time.perf_counter() - start]))
"""


@pytest.mark.long
def test_the_proof_costs_little_of_a_first_call(tmp_path: Any) -> None:
    """Besides compiling the backward pass, which it only does earlier; in a process that has compiled nothing yet."""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COST], env=environment, capture_output=True, text=True, check=True)
    proof, total = json.loads(done.stdout)
    assert proof < 0.05 * total


class Halves(nd.Dynamics):
    """Writes to one of several views, which torch refuses only where gradients are switched on."""

    p = nd.state(0.0)

    def __init__(self, size: int):
        super().__init__(size)
        self.linear = nn.Linear(size, size)

    def step(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        first, *rest = (p + self.linear(x)).unbind(-1)
        first.detach().mul_(0.5)
        p = torch.stack([first, *rest], -1)
        return p, p


@pytest.mark.filterwarnings("ignore::neurodyn.EagerWarning")
def test_the_plain_step_runs_with_gradients_only_if_the_call_does() -> None:
    xs, net = torch.rand(6, 2, 5), Halves(5)
    with torch.no_grad():
        nd.reset_states(net, 2)
        wanted = torch.stack([net(x) for x in xs])
        torch.testing.assert_close(nd.unroll(net, xs), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_compiled(dtype: torch.dtype) -> None:
    """Kernels round less often than the plain loop, so that some spikes come a step earlier or later."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(8, 64), nd.LIF(64)).to(dtype)
    xs = torch.randn(16, 32, 8).to(dtype)
    found, wanted = nd.unroll(net, xs), nd.unroll(net, xs, compile=False)  # a warning would be an error
    assert wanted.float().mean() > 0.02
    assert (found != wanted).float().mean() < 0.01


def test_a_wrong_program_of_half_precision_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "outs", 0.5)
    assert_caught(nd.Expon(4, tau=5 * u.ms).bfloat16(), "output 0", XS.bfloat16())
