"""Encoders of real-valued data as the time or the presence of spikes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from .. import surrogate as surrogates
from .. import units as u
from ..core.dynamics import Dynamics, as_dt, get_default_dt
from ..core.fields import Param, State, check, param, positive, state
from ..core.precise import precise


class LatencyEncoder(nn.Module):
    r"""Encode each value as the time of one spike: the larger the value, the earlier the spike.

    ``method="linear"``: x between 0 and 1 spikes in step $(1 - x)(T - 1)$, rounded; 0 is silent.
    ``method="log"``: x spikes when a leaky neuron with the constant drive x reaches theta,
    $t = \tau \ln\frac{x}{x - \theta}$: at the end of step i when $t$ is in $(i\,dt, (i + 1)\,dt]$. Values up to theta,
    and those whose time is not within T steps, are silent.

    Input: x of any shape. Output of ``encoder(x, T)``: spikes, 0 or 1, ``(T, *shape)``; ``encoder.at(i, x, T)`` is
    step i alone. No gradient reaches x.

    Args:
        method: "linear" or "log".
        tau: time constant for "log" (5 ms).
        theta: threshold for "log" (0.1).
        dt: time step, a quantity; `get_default_dt()` at construction if not given.

    Raises:
        ValueError: at a call, a value that is not between 0 and 1 for "linear", or not finite.

    Example:
        >>> nd.LatencyEncoder()(torch.tensor([1.0, 0.5, 0.0]), T=5).argmax(0).tolist()  # 0.0 does not spike
        [0, 2, 0]

    Source: Thorpe, Delorme and Van Rullen (2001), Spike-based strategies for rapid processing, Neural Networks 14.
    """

    def __init__(
        self,
        method: Literal["linear", "log"] = "linear",
        *,
        tau: Any = 5 * u.ms,
        theta: float = 0.1,
        dt: Any = None,
    ):
        super().__init__()
        if method not in ("linear", "log"):
            raise ValueError(f"LatencyEncoder: method must be 'linear' or 'log', got {method!r}")
        self.method, self.theta, self.dt = (
            method,
            theta,
            as_dt(get_default_dt() if dt is None else dt, "LatencyEncoder: dt"),
        )
        self.tau = float(check(tau, u.canonical_unit("ms"), (), "LatencyEncoder: tau", None, torch.float64))
        if self.tau <= 0 or theta <= 0:
            raise ValueError(f"LatencyEncoder: tau and theta must be positive, got {self.tau:g} ms and {theta!r}")

    def steps(self, x: Tensor, T: int) -> Tensor:
        """The step of each spike, T where there is none."""
        x = x.to(precise(x.dtype))  # half precision has not all the steps
        if not bool(x.isfinite().all()):
            raise ValueError("LatencyEncoder: x must be finite")
        if self.method == "log":
            above = x > self.theta
            time = -self.tau * torch.log1p(-self.theta / torch.where(above, x, 2 * self.theta))
            step = torch.ceil(time / self.dt * (1 - 1e-6)) - 1
            return torch.where(above, step.clamp(0, T), T).long()
        if x.numel() and not bool(((x >= 0) & (x <= 1)).all()):
            low, high = x.aminmax()
            raise ValueError(f"LatencyEncoder: x must be between 0 and 1, got values from {low:g} to {high:g}")
        return torch.where(x > 0, ((1 - x) * (T - 1)).round(), T).long()

    def forward(self, x: Tensor, T: int) -> Tensor:
        """Spikes for T steps, ``(T, *shape)``."""
        time = torch.arange(T, device=x.device).view(T, *(1 for _ in x.shape))
        return (self.steps(x, T) == time).to(x.dtype)

    def at(self, i: int, x: Tensor, T: int) -> Tensor:
        """The spikes of step `i` out of T, of the shape of `x`."""
        return (self.steps(x, T) == i).to(x.dtype)

    def extra_repr(self) -> str:
        """Method and its constants."""
        constants = f", tau={self.tau:g} ms, theta={self.theta:g}, dt={self.dt:g} ms" if self.method == "log" else ""
        return f"{self.method!r}{constants}"


class DeltaEncoder(Dynamics):
    r"""Encode changes as signed spikes: 1 where the input has risen by the threshold, -1 where it has fallen by it.

    A level r follows the input x: the spike is 1 if $x - r \ge \theta$, -1 if $r - x \ge \theta$, else 0, and
    $r \gets r + \theta \cdot spike$. So r is the input as it can be read from the spikes; it is within theta of x as
    long as x moves by at most theta in a step, and catches up by one theta a step otherwise. r starts at 0; give
    ``level_initializer`` to start elsewhere. For two channels of 0 and 1 take ``ys.relu()`` and ``(-ys).relu()``.

    A `Dynamics`: ``nd.unroll(encoder, xs)`` encodes a sequence ``(T, *batch, *size)``; a call encodes one step.

    Input: dimensionless, ``(*batch, *size)``. Output: -1, 0 or 1, same shape. State: level.

    Args:
        size: shape of the data.
        surrogate: slope of a spike in the backward pass, in units of (x - r) / theta, one of `neurodyn.surrogate`.
        values: further keywords of `Dynamics`.

    Example:
        >>> xs = torch.tensor([[0.0], [0.3], [0.55], [0.2]])
        >>> nd.unroll(nd.DeltaEncoder(1, threshold=0.25), xs, compile=False).squeeze().tolist()
        [0.0, 1.0, 1.0, -1.0]

    Source: Lichtsteiner, Posch and Delbruck (2008), A 128 x 128 120 dB 15 us latency asynchronous temporal contrast
    vision sensor, IEEE Journal of Solid-State Circuits 43.
    """

    threshold: Param = param(0.1, doc="theta, the change that makes a spike", domain=positive)

    level: State = state(default=0.0, alias="level_initializer", counts=True)

    if TYPE_CHECKING:
        surrogate: Callable[[Tensor], Tensor] = surrogates.ReluGrad()

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(
            self,
            size: int | tuple[int, ...],
            *,
            surrogate: Callable[[Tensor], Tensor] = surrogates.ReluGrad(),
            **values: Any,
        ):
            super().__init__(size, **values)
            self.surrogate = surrogates.check_surrogate(surrogate, self._label())

    def step(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        change = (x - level) / self.threshold
        spike = self.surrogate(change - 1) - self.surrogate(-change - 1)
        return spike, level + self.threshold * spike
