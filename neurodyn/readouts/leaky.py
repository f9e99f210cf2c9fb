"""Leaky readouts."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from .. import units as u
from ..dynamics import Dynamics
from ..fields import param, positive, state
from ..solve import relax


class LeakyIntegrator(Dynamics):
    r"""$\tau\,\dot r = -r$, and r jumps by the input: $r \gets e^{-dt/\tau} r + x$.

    Input and output: ``(*batch, *size)``, dimensionless.
    """

    tau: Tensor = param(5 * u.ms, domain=positive)

    r: Tensor = state(0.0)

    def step(self, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        r = relax(r, 0.0, self.tau, self.dt) + x
        return r, r


class LeakyRateReadout(nn.Sequential):
    r"""A linear map and leaky integration: $r \gets e^{-dt/\tau} r + W x$, without a factor $1 - e^{-dt/\tau}$.

    Input: spikes ``(*batch, in_features)``. Output: r, ``(*batch, out_features)``.

    Args:
        in_features, out_features: sizes; the weight is that of an ``nn.Linear`` without bias, ``readout.linear``.
        tau: time constant (5 ms).
        values: further keywords of `Dynamics`, such as ``dt`` and ``learn``.
    """

    def __init__(self, in_features: int, out_features: int, tau: Any = 5 * u.ms, **values: Any):
        factory = {key: values[key] for key in ("device", "dtype") if key in values}
        linear = nn.Linear(in_features, out_features, bias=False, **factory)
        super().__init__(OrderedDict(linear=linear, leak=LeakyIntegrator(out_features, tau=tau, **values)))
