"""Synapse with a rise and a decay time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import units as u
from ..core.decaying import Decaying, Part
from ..core.fields import Param, Parametrised, State, param, positive, show, state
from ..core.solve import relax
from .base import Linear


def peak_factor(tau_rise: Tensor, tau_decay: Tensor) -> Tensor:
    r"""The factor that gives $e^{-t/\tau_{decay}} - e^{-t/\tau_{rise}}$ a maximum of 1."""
    ratio = tau_rise / tau_decay
    return 1 / ((1 - ratio) * ratio ** (ratio / (1 - ratio)))


class _Amplitude(Param):
    """A of `DualExpon`: the value that was given, else the factor that follows the time constants."""

    def read(self, module: Parametrised) -> Tensor:
        if module.normalised:
            return peak_factor(module.tau_rise, module.tau_decay)  # type: ignore[arg-type]
        return super().read(module)

    def write(self, module: Parametrised, value: Tensor) -> None:
        """Refuse a value that would not be read."""
        if module.normalised:
            raise ValueError(
                f"{module._label()}: A follows tau_rise and tau_decay, so it cannot be set; build the synapse with A="
            )
        super().write(module, value)


class DualExpon(Linear):
    r"""Difference of two exponentials: conductance $g = A\,(g_{decay} - g_{rise})$.

    $\tau_{decay}\,\dot g_{decay} = -g_{decay}$ and $\tau_{rise}\,\dot g_{rise} = -g_{rise}$; the input is added to both
    after the decay. A unit jump gives a response with peak 1, unless A is given: without A,
    $A = \frac{\tau_d}{\tau_d - \tau_r} (\tau_r/\tau_d)^{\tau_r/(\tau_r - \tau_d)}$, also while the time constants are
    learned. The response starts at 0 in the step of the jump.

    Equal time constants are an error, since then the two states hold nothing of the response: use `Alpha`. Near
    equality rounding grows as 1 / |1 - tau_rise / tau_decay|.

    Input: jump in nS, ``(*batch, *size)``. Output: g in nS, same shape.

    Args:
        exact: whether g changes within the step, or is held; see
            `neurodyn.synapses.base.Linear`.

    Example:
        >>> syn = nd.DualExpon(1, dt=0.1 * u.ms)
        >>> g = torch.stack([syn(torch.tensor([float(i == 0)])) for i in range(100)])
        >>> round(g.max().item(), 3), g.argmax().item()
        (1.0, 26)

    Source: Roth and van Rossum (2009), Modeling synapses, in Computational Modeling Methods for Neuroscientists.
    """

    time_constants = ("tau_rise", "tau_decay")

    tau_decay: Param = param(10 * u.ms, doc="time constant of the decay", domain=positive)
    tau_rise: Param = param(1 * u.ms, doc="time constant of the rise", domain=positive)
    A: Param = _Amplitude(1.0, doc="factor", computed="for a peak of 1")

    g_rise: State = state(default=0 * u.nS, alias="g_rise_initializer")
    g_decay: State = state(default=0 * u.nS, alias="g_decay_initializer")

    if not TYPE_CHECKING:  # which reads the declarations instead

        def __init__(self, size: int | tuple[int, ...], *, A: Any = None, learn: Iterable[str] = (), **values: Any):
            super().__init__(size, A=1.0 if A is None else A, learn=learn, **values)
            rise, decay = self.tau_rise.detach(), self.tau_decay.detach()
            if bool(((rise - decay).abs() <= torch.finfo(decay.dtype).eps ** 0.5 * decay).any()):
                raise ValueError(
                    f"{self._label()}: tau_rise and tau_decay must differ, got {show(rise, u.ms)} and "
                    f"{show(decay, u.ms)}; for equal time constants use Alpha(size, tau=...)"
                )
            self.normalised = A is None and "A" not in self._parameters
            if self.normalised:
                del self._buffers["A"]
            elif A is None:  # learned from the normalised value on
                self.A = nn.Parameter(peak_factor(rise, decay))

    def step(self, jump: Tensor, g_rise: Tensor, g_decay: Tensor) -> tuple[Tensor | Decaying, Tensor, Tensor]:
        g_rise = relax(g_rise, 0.0, self.tau_rise, self.dt) + jump
        g_decay = relax(g_decay, 0.0, self.tau_decay, self.dt) + jump
        return self.output(g_rise, g_decay), g_rise, g_decay

    def output(self, g_rise: Tensor, g_decay: Tensor) -> Tensor | Decaying:
        """g, or its course from the two states on."""
        if self.exact:
            return Decaying([Part(self.A * g_decay, self.tau_decay), Part(-self.A * g_rise, self.tau_rise)], self.dt)
        return self.A * (g_decay - g_rise)
