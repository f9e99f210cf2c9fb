"""Peak memory of a training step as T grows: a layer of LIF neurons, and the chain; a process for each point.

What counts is what the step adds to the resident memory after a small step, so without libraries and compiled code, and
the input and the gradient of the output, which were there before. "input + output" are the bytes of those two, of the
output and of the gradient of the input: what any step has to hold. The bar is 1.4 times that and 16 MB, whatever T is.
"""

from __future__ import annotations

from .subprocesses import PEAK, answer, attempt
from .timing import Comparison, Options

EAGER, BLOCKS = "neurodyn, eager loop", "neurodyn, checkpoint=64"
BAR = "1.4 times that, + 16 MB"
HOW = {"neurodyn": {}, EAGER: {"compile": False}, BLOCKS: {"checkpoint": 64}}
LAYER = """
import neurodyn
from benchmarks import layer, torch_peers
make = layer.neurodyn if {name!r} == "neurodyn" else torch_peers.LAYERS[{name!r}]
run, parameters = make({size})
def step(T):
    torch.manual_seed(0)
    xs = (1 + 2 * torch.randn(T, {batch}, {size})).requires_grad_()
    weight = torch.rand(T, {batch}, {size})
    return lambda: torch.autograd.grad(run(xs), [xs], weight)
"""
CHAIN = """
import neurodyn
from benchmarks import chain
net = chain.chain({size})
def step(T):
    xs = chain.spikes(T, {batch}, {size}).requires_grad_()
    weight = torch.rand(T, {batch}, {size})
    how = {how}
    return lambda: torch.autograd.grad(neurodyn.unroll(net, xs, **how), [xs, *net.parameters()], weight)
"""
WARM = "\nstep(17)()\nwork = step({T})\nimport gc; gc.collect()"


def peak(code: str, options: Options, T: int, **values: object) -> float | str:
    setup = (code + WARM).format(T=T, **values)
    program = PEAK.format(threads=options.threads, setup=setup, work="result = work()")
    return attempt(lambda: answer(program))


def run(options: Options) -> list[Comparison]:
    """All lengths, ours and the peers'."""
    found = []
    batch, size = options.size(32, 2), options.size(512, 3)
    for title, code, names in (
        ("LIF", LAYER, ["neurodyn", *(("SpikingJelly", "snnTorch") if options.peers else ())]),
        ("STP, Linear, Expon, COBA, LIF", CHAIN, ["neurodyn", BLOCKS, EAGER]),
    ):
        for T in (options.size(100, 20), 800, 3200)[: 1 if options.toy else None]:
            tensor = 4 * T * batch * size / 1e6
            name = f"{title}, T={T}, batch {batch}, {size} neurons, peak of forward + backward"
            comparison = Comparison(name, {}, unit="MB")
            for way in names:
                if way == EAGER and T > 800:
                    comparison.absent[way] = "left out, it would take more than 10 GB"
                    continue
                value = peak(code, options, T, name=way, how=HOW.get(way), batch=batch, size=size)
                if isinstance(value, str):
                    comparison.absent[way] = value
                else:
                    comparison.costs[way] = [value + 2 * tensor]
            comparison.costs |= {"input + output": [4 * tensor], BAR: [1.4 * 4 * tensor + 16]}
            comparison.bars[BAR] = 1.0
            if T == 3200:
                comparison.bars |= dict.fromkeys((name for name in names if name not in HOW), 2.0)
            print(comparison, flush=True)
            found.append(comparison)
    return found
