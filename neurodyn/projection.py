"""Projection: from the spikes of one population to the input of another."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from .current import Current, SynapticOutput
from .dynamics import Dynamics
from .states import check_dt, named_dynamics


class Projection(nn.Module):
    """Spikes to synaptic input: delay, plasticity, then synapse and connection, then output.

    With ``align="post"`` the connection comes before the synapse, which then has the size of the target population:
    one synapse state per target neuron, right for every synapse that is linear in its input. With ``align="pre"`` the
    synapse comes first and has the size of the source.

    Input: spikes ``(*batch, source)``. Output: a `Current` in pA with `output`, else the plain tensor (a jump of a
    conductance, or mV for ``delta=``), ``(*batch, target)``.

    Args:
        connection: any callable module, such as ``nn.Linear(source, target, bias=False)``.
        synapse: a synapse, or None for the connection's values themselves.
        align: "post" or "pre".
        output: `COBA`, `CUBA`, ... or None.
        plasticity: `STP`, `STD` or None, of the size of the source.
        delay: a delay of the spikes, or None.

    Raises:
        ValueError: an unknown `align`, or parts with different dt.
        TypeError: a part of the wrong kind.

    Example:
        >>> projection = nd.Projection(
        ...     torch.nn.Linear(100, 20, bias=False),
        ...     plasticity=nd.STP(100),
        ...     synapse=nd.Expon(20, tau=5 * u.ms),
        ...     output=nd.COBA(E=0 * u.mV),
        ... )
        >>> neuron = nd.LIF(20)
        >>> neuron(projection(torch.ones(8, 100))).shape
        torch.Size([8, 20])
    """

    def __init__(
        self,
        connection: nn.Module,
        *,
        synapse: Dynamics | None = None,
        align: Literal["post", "pre"] = "post",
        output: SynapticOutput | None = None,
        plasticity: Dynamics | None = None,
        delay: Dynamics | None = None,
    ):
        super().__init__()
        if align not in ("post", "pre"):
            raise ValueError(f"Projection: align must be 'post' or 'pre', got {align!r}")
        if not isinstance(connection, nn.Module):
            raise TypeError(f"Projection: connection must be a module such as nn.Linear, got {connection!r}")
        for name, part in (("synapse", synapse), ("plasticity", plasticity), ("delay", delay)):
            if part is not None and not isinstance(part, Dynamics):
                raise TypeError(f"Projection: {name} must be a neurodyn layer or None, got {part!r}")
        if output is not None and not isinstance(output, SynapticOutput):
            raise TypeError(f"Projection: output must be COBA, CUBA, ... or None, got {output!r}")
        self.align = align
        self.delay, self.plasticity, self.connection = delay, plasticity, connection
        self.synapse, self.output = synapse, output
        if any(named_dynamics(self)):
            check_dt(self)

    def stages(self) -> list[nn.Module]:
        """The parts in the order in which spikes pass them."""
        middle = [self.connection, self.synapse] if self.align == "post" else [self.synapse, self.connection]
        return [part for part in (self.delay, self.plasticity, *middle, self.output) if part is not None]

    def forward(self, spikes: Tensor) -> Tensor | Current:
        x: Any = spikes
        for stage in self.stages():
            x = stage(x)
        return x
