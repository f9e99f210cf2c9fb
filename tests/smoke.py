"""The smoke part of the suite, on any torch: ``python tests/smoke.py``.

One of each engine path beside the plain loop, with the C++ loop's use asserted, and one epoch of ``neurodyn train``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings

import torch
from torch import nn

import neurodyn as nd
from neurodyn import torch_private
from neurodyn import units as u
from neurodyn.engine import compiled_chunk

torch.set_num_threads(2)


class Loop(nn.Module):
    """A recurrent network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.rec = nn.Linear(4, 8), nn.Linear(8, 8, bias=False)
        self.neuron, self.synapse = nd.LIF(8, R=5 * u.Gohm), nd.Expon(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.neuron(self.inp(x) + self.rec(self.synapse.g))
        self.synapse(spikes)
        return spikes


NETS = {
    "layer": (lambda: nd.LIF(8, R=5 * u.Gohm, learn=("tau",)), (20, 3, 8)),
    "row": (lambda: nn.Sequential(nn.Linear(6, 8), nd.LIF(8, R=5 * u.Gohm), nd.LeakyRateReadout(8, 2)), (21, 3, 6)),
    "slopes by vjp": (lambda: nd.AdEx(5), (12, 3, 5)),
    "recurrent": (Loop, (21, 3, 4)),
    "no batch": (Loop, (21, 4)),
    "sparse": (lambda: nn.Sequential(nd.FixedProb(9, 8, 0.5, weight=0.5), nd.LIF(8, R=5 * u.Gohm)), (20, 2, 9)),
}


def outcome(make, shape, **options):
    """Outputs, gradients and final states."""
    torch.manual_seed(0)
    net, xs = make().double(), (3 * torch.rand(*shape, dtype=torch.float64)).requires_grad_()
    if len(shape) == 2 and isinstance(net, Loop):
        nd.reset_states(net)
    ys = nd.unroll(net, xs, **options)
    with torch.no_grad():
        nd.unroll(net, xs, **options)
    parameters = [p for p in net.parameters() if p.requires_grad]
    weights = torch.linspace(0.5, 1.5, ys.numel(), dtype=ys.dtype).view_as(ys)
    grads = torch.autograd.grad((ys * weights).sum(), [xs, *parameters])
    return [ys.detach(), *grads, *nd.get_states(net).values()]


def main() -> None:
    """Raise AssertionError where a path is wrong or missing."""
    replayed = []
    old = compiled_chunk.CompiledChunk._replayed
    compiled_chunk.CompiledChunk._replayed = lambda self, *a: replayed.append(1) or old(self, *a)  # type: ignore[method-assign]
    warnings.simplefilter("error", nd.EagerWarning)
    for name, (make, shape) in NETS.items():
        replayed.clear()
        compiled, plain = outcome(make, shape), outcome(make, shape, compile=False)
        checkpointed = outcome(make, shape, checkpoint=5)
        for found in (compiled, checkpointed):
            for a, b in zip(found, plain, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)
        assert replayed or name in ("recurrent", "no batch", "sparse"), f"{name}: the loop in C++ was not used"
        print(f"{name}: right{', by the loop in C++' if replayed else ''}", flush=True)
    net, x = Loop(), torch.rand(2, 4)
    stream = nd.Stream(net, x)
    wanted = [net(x) for _ in range(3)]
    nd.reset_states(net, 2)
    assert all(torch.equal(stream(x), y) for y in wanted)
    print(f"torch {torch.__version__} lacks {torch_private.missing() or 'no private name'}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "neurodyn", "train", "--epochs", "1", "--out", folder]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
