"""One network with everything in it, for the tests of how neurodyn fits into PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u

INPUTS, SIZE, OUTPUTS = 5, 6, 3


def composed(**factory: Any) -> nn.Sequential:
    """An encoder, a delayed projection with short-term plasticity, a recurrent population and a readout.

    `factory` is ``device`` and ``dtype``, as in torch.nn.
    """
    first, connection = nn.Linear(INPUTS, SIZE, **factory), nn.Linear(SIZE, SIZE, bias=False, **factory)
    nn.init.uniform_(first.weight, 0.0, 0.5)
    nn.init.uniform_(connection.weight, 0.0, 3.0)
    tau = torch.linspace(4, 9, SIZE, device="cpu")
    return nn.Sequential(
        first,
        nd.LIF(SIZE, R=1 * u.Gohm, learn="tau", **factory),
        nd.Projection(
            connection,
            delay=nd.Delay(SIZE, 2 * u.ms, **factory),
            plasticity=nd.STP(SIZE, U=0.5, learn=("U", "tau_d"), **factory),
            synapse=nd.Expon(SIZE, learn="tau", **factory),
            output=nd.COBA(E=3 * u.mV, learn="E", **factory),
        ),
        nd.Recurrent(
            nd.LIF(SIZE, tau=tau * u.ms, R=1 * u.Gohm, reset="hard", learn=("tau", "V_th"), **factory),
            nn.Linear(SIZE, SIZE, bias=False, **factory),
        ),
        nd.LeakyRateReadout(SIZE, OUTPUTS, tau=20 * u.ms, learn="tau", **factory),
    )


def inputs(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """An input that makes both populations of `composed` spike, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return (4 * torch.rand((*shape, INPUTS), generator=generator, dtype=torch.float64)).to(dtype)
