"""Projection: from the spikes of one population to the input of another."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import pint
import torch
from torch import Tensor, nn

from .. import units as u
from ..connections import Sparse
from ..core.current import Current, SynapticOutput
from ..core.dynamics import Dynamics
from ..core.signature import Called
from ..core.states import check_dt, named_dynamics
from ..delays.delay import Delay
from ..plasticity import Plasticity
from .strength import Strength


class Projection(nn.Module, metaclass=Called):
    """The path from spikes to synaptic input: delay, plasticity, then synapse and connection, then output.

    With ``align="post"`` the connection comes before the synapse, which then has the size of the target population:
    one synapse state per target neuron, right for every synapse that is linear in its input. With ``align="pre"`` the
    synapse comes first and has the size of the source.

    Input: spikes ``(*batch, source)``. Output: a `Current` in pA with `output`, else the plain tensor (a jump of a
    conductance, or mV for ``delta=``), ``(*batch, target)``.

    For a population that feeds back on itself, ``read()`` gives the output of the coming step from the spikes that are
    on their way, in the delay or in a connection with delays, and ``write(spikes)`` sends new ones. A read and then a
    write in each step are the same as one call.

    Args:
        connection: any callable module, such as ``nn.Linear(source, target, bias=False)``, or a rule such as `STDP`
            around one, whose weights change when `learn` is called with the spikes of the target.
        synapse: a synapse, or None for the connection's values themselves.
        align: "post" or "pre".
        output: `COBA`, `CUBA`, ... or None.
        plasticity: `STP`, `STD` or None, of the size of the source.
        delay: a delay of the spikes, or None.
        strength: a factor of all weights: a number; or one for each sample of a batch, ``(*batch, 1)``, which makes
            many runs with other strengths one batch; or one for each target. An ``nn.Parameter`` is trained.
            ``projection.strength = 0.5`` sets it later.

    Raises:
        ValueError: an unknown `align`, parts with different dt, or of sizes that do not fit; at a call, a strength
            that does not broadcast to the output of the connection.
        TypeError: a part of the wrong kind.
        pint.DimensionalityError: a weight in a unit that the next part does not take.

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
        strength: Any = None,
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
        if align == "pre" and getattr(synapse, "exact", False):
            raise ValueError(
                f"Projection: {_name(synapse)} has exact=True, which needs align='post': what decays within the step "
                "goes to a neuron and cannot pass a connection"
            )
        self.align = align
        self.delay, self.plasticity, self.connection = delay, plasticity, connection
        self.synapse, self.output, self.factor = synapse, output, None
        if strength is not None:
            like = next(itertools.chain(connection.parameters(), connection.buffers()), torch.empty(()))
            factory = {"device": like.device, "dtype": like.dtype if like.is_floating_point() else None}
            self.factor = Strength(factor=strength, **factory)
        if any(named_dynamics(self)):
            check_dt(self)
        _check_sizes(self.stages())
        _check_units(connection, synapse, align, output)

    @property
    def strength(self) -> Tensor | None:
        """The factor of all weights; None without."""
        return None if self.factor is None else self.factor.factor  # type: ignore[return-value]

    @strength.setter
    def strength(self, value: Any) -> None:
        if self.factor is None:
            raise TypeError("Projection was built without a strength; build it with strength=1.0, to be set later")
        self.factor.factor = value

    def stages(self) -> list[nn.Module]:
        """The parts in the order in which spikes pass them."""
        connection = self.connection, self.factor
        middle = (*connection, self.synapse) if self.align == "post" else (self.synapse, *connection)
        return [part for part in (self.delay, self.plasticity, *middle, self.output) if part is not None]

    def forward(self, spikes: Tensor) -> Tensor | Current:
        x: Any = spikes
        for stage in self.stages():
            x = stage(x)
        return x

    def learn(self, spikes: Tensor, **signals: Any) -> None:
        """Change the weights of a connection that learns, by the spikes of the target in this step.

        Raises:
            TypeError: a connection that does not learn.
        """
        if not hasattr(self.connection, "learn"):
            raise TypeError(
                f"Projection: {_name(self.connection)} does not learn; build it with a rule as the connection, for "
                "example nd.Projection(nd.STDP(connection, w_max=...), ...)"
            )
        self.connection.learn(spikes, **signals)  # type: ignore[operator]

    def read(self) -> Tensor | Current:
        """The output of the coming step, before its spikes are known; every delay must be at least dt.

        Raises:
            TypeError: a projection without delays.
        """
        held = self._delayed()
        x: Any = self.stages()[held].read()  # type: ignore[operator]
        for stage in self.stages()[held + 1 :]:
            x = stage(x)
        return x

    def write(self, spikes: Tensor) -> None:
        """Send the spikes of a step, whose output `read` gave."""
        x: Any = spikes
        for stage in self.stages()[: self._delayed() + 1]:
            x = stage(x)

    def _delayed(self) -> int:
        for i, stage in enumerate(self.stages()):
            late = isinstance(stage, Sparse) and stage.delays is not None
            late = late or (isinstance(stage, Plasticity) and stage.layout.axons is not None)
            if isinstance(stage, Delay) or late:
                return i
        raise TypeError("Projection: read() and write() need delay=nd.Delay(...) or a connection with delays")


class Receptor(nn.Module, metaclass=Called):
    """One synapse and its output for several connections, whose jumps add up.

    Input: the outputs of the connections, ``(*batch, *size)`` each. Output: that of `output`, a `Current` in pA.

    Args:
        synapse: a synapse that is linear in its input, such as `Expon`.
        output: `COBA`, `CUBA`, ...

    Raises:
        TypeError: a part of the wrong kind.
        ValueError: at a call, jumps of different shapes.

    Example:
        >>> receptor = nd.Receptor(nd.Expon(2), nd.COBA(E=0 * u.mV))
        >>> I = receptor(torch.tensor([1.0, 0.0]), torch.tensor([0.5, 2.0]))  # jumps of two connections, in nS
        >>> I(torch.tensor([-60.0, -70.0])).tolist()  # pA
        [90.0, 140.0]
    """

    def __init__(self, synapse: Dynamics, output: SynapticOutput):
        super().__init__()
        if not isinstance(synapse, Dynamics):
            raise TypeError(f"Receptor: synapse must be a neurodyn layer, got {synapse!r}")
        if not isinstance(output, SynapticOutput):
            raise TypeError(f"Receptor: output must be COBA, CUBA, ..., got {output!r}")
        self.synapse, self.output = synapse, output

    def forward(self, *jumps: Tensor) -> Current:
        if not jumps or any(jump.shape != jumps[0].shape for jump in jumps):
            found = ", ".join(str(tuple(jump.shape)) for jump in jumps)
            raise ValueError(f"Receptor: wanted jumps of one shape, got {found or 'none'}")
        total = jumps[0]
        for jump in jumps[1:]:
            total = total + jump
        return self.output(self.synapse(total))


def _sizes(part: nn.Module) -> tuple[Any, Any]:
    """Sizes of input and output; None where they are not known."""
    if isinstance(part, Dynamics):
        return part.input_size, part.size
    if hasattr(part, "in_features"):
        return (part.in_features,), (part.out_features,)
    return getattr(part, "in_size", None), getattr(part, "out_size", None)


def _check_sizes(stages: list[nn.Module]) -> None:
    known, giver = None, None
    for part in stages:
        if isinstance(part, (SynapticOutput, Strength)):
            continue
        wanted, given = _sizes(part)
        if None not in (known, wanted) and known != wanted:
            raise ValueError(
                f"Projection: {_name(giver)} gives the size {known} and {_name(part)} takes {wanted}; delay and "
                "plasticity have the size of the source, and with align='post' the synapse that of the target"
            )
        known, giver = given, part


def _name(part: Any) -> str:
    return part._label() if hasattr(part, "_label") else str(part)


def _check_units(connection: nn.Module, synapse: Dynamics | None, align: str, output: SynapticOutput | None) -> None:
    """Refuse a weight whose unit is not that of the jump or conductance that it makes."""
    weight = getattr(connection, "unit", None)
    if weight is None or weight.dimensionless:
        return
    held = None if synapse is None else synapse.state_unit(next(iter(synapse.states)))
    if align == "post" and held is not None:
        wanted, taker = held, f"{_name(synapse)} with align='post' takes jumps in"
    elif output is not None:
        conductance = u.registry.Unit("nS")
        wanted = u.canonical_unit(conductance / held) if held is not None else conductance
        taker = f"{type(output).__name__} takes a conductance, so the weight must be in"
    else:
        return
    if weight.dimensionality != wanted.dimensionality:
        taker = f"{taker} {f'{wanted:~}' or 'no unit'}"
        raise pint.DimensionalityError(
            weight,
            wanted,
            extra_msg=f": Projection: {_name(connection)} has a weight in {weight:~}, but {taker}",
        )
