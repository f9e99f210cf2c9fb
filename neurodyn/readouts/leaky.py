"""Leaky readouts."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, Unpack

import pint
import torch
from torch import Tensor, nn

from .. import units as u
from ..core.dynamics import Dynamics
from ..core.fields import Param, State, param, positive, state
from ..core.signature import Misspelt, Whole, refuse_misspelt
from ..core.solve import relax
from ..neurons.base import Spiking
from ..surrogate import DEFAULT


@contextlib.contextmanager
def _named(inner: str, outer: str) -> Iterator[None]:
    """An error about a part of a readout names the readout."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if isinstance(error, pint.DimensionalityError):
            error.extra_msg = error.extra_msg.replace(inner, outer)
        error.args = tuple(part.replace(inner, outer) if isinstance(part, str) else part for part in error.args)
        raise


class LeakyIntegrator(Dynamics):
    r"""$\tau\,\dot r = -r$, and r jumps by the input: $r \gets e^{-dt/\tau} r + x$.

    Input and output: ``(*batch, *size)``, dimensionless.
    """

    tau: Param = param(5 * u.ms, doc="time constant", domain=positive)

    r: State = state(default=0.0, alias="r_initializer")

    def step(self, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        r = relax(r, 0.0, self.tau, self.dt) + x
        return r, r


class LeakyRateReadout(nn.Sequential):
    r"""A linear map and leaky integration: $r \gets e^{-dt/\tau} r + W x$, without a factor $1 - e^{-dt/\tau}$.

    Input: spikes ``(*batch, in_features)``. Output: r, ``(*batch, out_features)``.

    Args:
        in_features, out_features: sizes; the weight is that of an ``nn.Linear`` without bias, ``readout.linear``.
        tau: time constant (5 ms).
        r_initializer: r before the first step (0).
        dt, learn, device, dtype: see `Dynamics`.

    Raises:
        TypeError: another keyword.

    Example:
        >>> readout = nd.LeakyRateReadout(100, 10, tau=20 * u.ms)
        >>> nd.unroll(readout, torch.zeros(50, 8, 100), compile=False).shape
        torch.Size([50, 8, 10])
    """

    __signature__ = Whole()

    def __init__(
        self,
        in_features: int,
        out_features: int,
        tau: Any = 5 * u.ms,
        *,
        r_initializer: Any = 0.0,
        dt: Any = None,
        learn: Iterable[str] = (),
        device: Any = None,
        dtype: torch.dtype | None = None,
        **misspelt: Unpack[Misspelt],
    ):
        refuse_misspelt(misspelt, f"{type(self).__name__}({in_features}, {out_features})", type(self))
        linear = nn.Linear(in_features, out_features, bias=False, device=device, dtype=dtype)
        with _named(f"LeakyIntegrator({out_features})", f"LeakyRateReadout({in_features}, {out_features})"):
            leak = LeakyIntegrator(
                out_features, tau=tau, r_initializer=r_initializer, dt=dt, learn=learn, device=device, dtype=dtype
            )
        super().__init__(OrderedDict(linear=linear, leak=leak))


class LeakySpike(Spiking):
    r"""Leaky neuron driven by a potential: $\tau\,\dot V = x - V$; it spikes where $V \ge V_{th}$ and V is reset to 0.

    Input: x in mV, ``(*batch, *size)``. Output: spikes, 0 or 1, of the same shape, of the V at the end of the step.

    Source: Gerstner, Kistler, Naud and Paninski (2014), Neuronal Dynamics, ch. 1.3.
    """

    tau: Param = param(5 * u.ms, doc="time constant", domain=positive)
    V_th: Param = param(1 * u.mV, doc="threshold", domain=positive)
    V_reset = 0.0

    V: State = state(default=0 * u.mV, alias="V_initializer")

    def step(self, x: Tensor, V: Tensor) -> tuple[Tensor, Tensor]:
        V = relax(V, x, self.tau, self.dt)
        spike = self.fire(V - self.V_th)
        return spike, self.reset_potential(V, spike, self.V_th, self.V_reset)


class LeakySpikeReadout(nn.Sequential):
    r"""A linear map to mV and a leaky neuron: $\tau\,\dot V = W x - V$, a spike where $V \ge V_{th}$, then the reset.

    Input: spikes ``(*batch, in_features)``. Output: spikes, 0 or 1, ``(*batch, out_features)``.

    Args:
        in_features, out_features: sizes; the weight, in mV, is that of an ``nn.Linear`` without bias,
            ``readout.linear``; tau and V_th may differ from one output to the next.
        tau: time constant (5 ms).
        V_th: threshold (1 mV).
        surrogate: slope of the spike in the backward pass, one of `neurodyn.surrogate`.
        reset: "soft" subtracts V_th, "hard" sets V to 0.
        reset_gradient, surrogate_scale: see `LIF`.
        V_initializer: V before the first step (0 mV).
        dt, learn, device, dtype: see `Dynamics`.

    Raises:
        TypeError: another keyword.

    Example:
        >>> readout = nd.LeakySpikeReadout(100, 10, V_th=0.5 * u.mV)
        >>> nd.unroll(readout, torch.ones(50, 8, 100), compile=False).unique().tolist()
        [0.0, 1.0]
    """

    __signature__ = Whole()

    def __init__(
        self,
        in_features: int,
        out_features: int,
        tau: Any = 5 * u.ms,
        V_th: Any = 1 * u.mV,
        *,
        surrogate: Callable[[Tensor], Tensor] = DEFAULT,
        surrogate_scale: Any = None,
        reset: Literal["soft", "hard"] = "soft",
        reset_gradient: Literal["attached", "detached", "through"] = "through",
        V_initializer: Any = 0 * u.mV,
        dt: Any = None,
        learn: Iterable[str] = (),
        device: Any = None,
        dtype: torch.dtype | None = None,
        **misspelt: Unpack[Misspelt],
    ):
        refuse_misspelt(misspelt, f"{type(self).__name__}({in_features}, {out_features})", type(self))
        linear = nn.Linear(in_features, out_features, bias=False, device=device, dtype=dtype)
        with _named(f"LeakySpike({out_features})", f"LeakySpikeReadout({in_features}, {out_features})"):
            neuron = LeakySpike(
                out_features,
                tau=tau,
                V_th=V_th,
                surrogate=surrogate,
                surrogate_scale=surrogate_scale,
                reset=reset,
                reset_gradient=reset_gradient,
                V_initializer=V_initializer,
                dt=dt,
                learn=learn,
                device=device,
                dtype=dtype,
            )
        super().__init__(OrderedDict(linear=linear, neuron=neuron))
