"""Learning step by step, `nd.online`: compiled steps beside the same learner in Python."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd

from .timing import RECORDED, Comparison, Options, alternate


def network(size: int) -> nn.Module:
    """A recurrent layer of adaptive neurons before a leaky readout."""
    cell = nd.ALIF(size, reset_gradient="detached", **RECORDED)
    layer = nd.Recurrent(cell, nn.Linear(size, size, bias=False))
    return nn.Sequential(nn.Linear(size, size), layer, nd.LeakyRateReadout(size, 2))


def sequence(learner: nd.online.Learner, xs: Tensor) -> Callable[[], Any]:
    """The work of a sequence with a loss at each step."""
    return lambda: nd.online.unroll(learner, xs, lambda y, t: y.square().mean())


def run(options: Options) -> list[Comparison]:
    """Rules with a trace for each weight, with one for each neuron, and with none."""
    T, batch = options.size(100, 6), options.size(8, 2)
    found = []
    for rule in (nd.online.DRTRL, nd.online.ESDRTRL, nd.online.SLTT):
        for size in (options.size(20, 3), options.size(200, 4)):
            torch.manual_seed(0)
            net, xs = network(size), 3 * torch.rand(T, batch, size)
            work = {
                "neurodyn": sequence(rule(net, compile=not options.toy), xs),
                "neurodyn, compile=False": sequence(rule(copy.deepcopy(net), compile=False), xs),
            }
            name = f"nd.online.{rule.__name__}: T={T}, batch {batch}, {size} recurrent neurons"
            found.append(alternate(name, work, options))  # type: ignore[arg-type]
            print(found[-1], flush=True)
    return found
