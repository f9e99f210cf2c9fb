"""How fast is `unroll` beside an eager loop, and beside the time to stream the same bytes?"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn

import neurodyn as nd

from .timing import alternate, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    T, batch, size = 128, 32, 1024
    xs, weight = 0.6 * torch.randn(T, batch, size) + 0.1, torch.rand(T, batch, size)
    leaf = xs.clone().requires_grad_()
    nets = {"LIF": nd.LIF(size), "Expon + LIF": nn.Sequential(nd.Expon(size), nd.LIF(size))}
    print(f"T={T}, batch={batch}, {size} neurons, float32, {options.threads} threads, torch {torch.__version__}")

    for name, net in nets.items():

        def forward(net: nn.Module = net, **how: bool) -> None:
            with torch.no_grad():
                nd.unroll(net, xs, **how)

        def both(net: nn.Module = net, **how: bool) -> None:
            torch.autograd.grad(nd.unroll(net, leaf, **how), leaf, weight)

        start = time.perf_counter()
        both()
        print(f"\n{name}: first training step {time.perf_counter() - start:.1f} s (tracing and compiling)")
        work = {
            "forward": forward,
            "forward, eager": lambda forward=forward: forward(compile=False),
            "forward, streaming its bytes": lambda: xs * 2,
        }
        print(table(alternate(work, options.rounds), "forward"))
        work = {
            "forward + backward": both,
            "forward + backward, eager": lambda both=both: both(compile=False),
            "forward + backward, streaming": lambda: (xs * 2, xs * weight),
        }
        print(table(alternate(work, options.rounds), "forward + backward"))


if __name__ == "__main__":
    main()
