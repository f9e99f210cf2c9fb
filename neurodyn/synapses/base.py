"""What linear synapses share: an output that is held over the step, or decays within it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.decaying import Decaying
from ..core.dynamics import Dynamics, UnsetState


class Linear(Dynamics):
    r"""A synapse that is linear in its input.

    Args:
        exact: False, the default, holds the conductance over the step at the value from its beginning, after the jump.
            The charge that arrives is then too large by about dt / (2 tau). True lets it decay within the step: exact
            with `CUBA` or without an output into `IF`, `LIF`, `LIFRef` or `ALIF`, and with its mean over the step in
            `COBA`, `MgBlock` and other neurons, see `neurodyn.core.decaying`. The output is then such a `Current`,
            which a connection cannot take: in a `Projection` it needs ``align="post"``.
    """

    time_constants = ("tau",)
    if TYPE_CHECKING:
        exact: bool = False

    def __init__(self, size: int | tuple[int, ...], *, exact: bool = False, **values: Any):
        self.exact = exact  # which `time_scale` reads
        super().__init__(size, **values)

    @property
    def time_scale(self) -> Tensor | None:
        """The shortest time constant, where the conductance is held."""
        if self.exact:
            return None
        return torch.stack([getattr(self, name).detach().min() for name in self.time_constants]).min()

    def read(self) -> Tensor | Decaying:
        """The output as the states stand, for a network in which the neurons step before their spikes arrive."""
        if not self.is_set:
            raise UnsetState(f"{self._label()} has no state yet; call reset_state(*batch) first")
        return self.output(*(self._buffers[name] for name in self.states))  # type: ignore[arg-type]

    def output(self, *states: Tensor) -> Tensor | Decaying:
        """The conductance of the step that begins with these states."""
        raise NotImplementedError(f"{type(self).__name__} defines no output()")

    def extra_repr(self) -> str:
        """As of every model, and exact if it is."""
        return f"{super().extra_repr()}{', exact=True' if self.exact else ''}"
