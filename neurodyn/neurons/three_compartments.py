"""A soma with a proximal and a distal dendrite in a row, whose NMDA receptors make spikes of the dendrite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from .. import units as u
from ..core.coupled import implicit_row
from ..core.current import Current
from ..core.fields import Param, State, nonnegative, param, positive, state
from ..core.solve import with_slope
from .base import Spiking, current
from .lif_ref import check_countable, hold_after, steps_held


class ThreeCompartments(Spiking):
    r"""Integrate-and-fire soma with a proximal and a distal dendrite in a row.

    $C\,\dot V = -g_L (V - E_L) + g_{sp} (V_p - V) + I$ in the soma,
    $C_p\,\dot V_p = -g_{Lp} (V_p - E_L) + g_{sp} (V - V_p) + g_{pd} (V_d - V_p) + I_p$ in the proximal and
    $C_d\,\dot V_d = -g_{Ld} (V_d - E_L) + g_{pd} (V_p - V_d) + I_d$ in the distal dendrite; then ``delta`` is added to
    V. Where V has reached V_th there is a spike, and V is reset, to V_reset by default, and held as in `LIFRef`: a step
    k after the spike is held if $k\,dt < \tau_{ref}$. The dendrites go on and see the V that is held.

    The dendrites have a leak only. NMDA receptors, `MgBlock`, make spikes of the distal one: the block opens as V_d
    rises, so that each synapse adds more than the one before, up to near the reversal potential, where V_d stays as
    long as they are open. With the block of Jahr and Stevens, 0.062/mV, and an E_L above -75 mV it has one state of
    rest for each conductance; with a steeper block, such as 0.1/mV, it jumps between two, and there is a range of both.

    All three make one step together, linearised at the potentials from before it: of second order where the inputs
    are constant, stable for every coupling and dt; see `neurodyn.core.coupled.implicit_row`. A conductance counts as
    constant within a step; synapses with ``exact=True`` give its mean, which keeps the order, others are of first.

    Input: current I into the soma in pA, and optionally ``proximal`` and ``distal``, the currents into the dendrites
    (each a tensor or a `Current`, which sees the potential of its compartment), and ``delta`` in mV;
    ``(*batch, *size)``. Output: spikes, 0 or 1, of the same shape. States: V, V_p, V_d in mV, and ``held``, the number
    of steps for which V is still held.

    Source: Pagkalos, Chavlis and Poirazi (2023), Introducing the Dendrify framework for incorporating dendrites to
    spiking neural networks, Nature Communications 14, without its event-driven dendritic spikes. The values are those
    of the examples in Dendrify's documentation, not of a cell: soma, dendrite, threshold, reset and refractory period
    from its networks of two compartments, two such dendrites with couplings of 15 and 10 nS from ``NeuronModel``.

    Example:
        >>> neuron, g = nd.ThreeCompartments(3, dt=0.1 * u.ms), torch.tensor([5.0, 10.0, 20.0])  # nS of NMDA receptors
        >>> spikes = sum(neuron(torch.zeros(3), distal=nd.MgBlock()(g)) for _ in range(1000))
        >>> [round(V, 1) for V in neuron.V_d.tolist()]
        [-56.8, -52.4, -35.7]
    """

    C: Param = param(200 * u.pF, doc="capacitance of the soma", domain=positive)
    C_p: Param = param(50 * u.pF, doc="capacitance of the proximal dendrite", domain=positive)
    C_d: Param = param(50 * u.pF, doc="capacitance of the distal dendrite", domain=positive)
    g_L: Param = param(10 * u.nS, doc="leak conductance of the soma", domain=nonnegative)
    g_L_p: Param = param(2.5 * u.nS, doc="leak conductance of the proximal dendrite", domain=nonnegative)
    g_L_d: Param = param(2.5 * u.nS, doc="leak conductance of the distal dendrite", domain=nonnegative)
    g_sp: Param = param(15 * u.nS, doc="conductance between soma and proximal dendrite", domain=nonnegative)
    g_pd: Param = param(10 * u.nS, doc="conductance between proximal and distal dendrite", domain=nonnegative)
    E_L: Param = param(-60 * u.mV, doc="reversal potential of the leak")
    V_th: Param = param(-40 * u.mV, doc="threshold of the soma")
    V_reset: Param = param(-50 * u.mV, doc="potential of the soma after a reset")
    tau_ref: Param = param(4 * u.ms, doc="refractory period, a number of steps", domain=nonnegative, learnable=False)

    V: State = state(default=-60 * u.mV, alias="V_initializer")
    V_p: State = state(default=-60 * u.mV, alias="V_p_initializer")
    V_d: State = state(default=-60 * u.mV, alias="V_d_initializer")
    held: State = state(default=0.0, alias="held_initializer", learnable=False)

    input_units: ClassVar[dict[str, str]] = Spiking.input_units | {"proximal": "pA", "distal": "pA"}

    if TYPE_CHECKING:  # which reads the declarations instead
        reset: Literal["soft", "hard"] = "hard"
    else:

        def __init__(self, size: int | tuple[int, ...], *, reset: Literal["soft", "hard"] = "hard", **values: Any):
            super().__init__(size, reset=reset, **values)
            check_countable(self)

    @property
    def time_scale(self) -> Tensor:
        """Half the refractory period: of a shorter one, steps hold less than half. Without it every dt will do."""
        return torch.where(self.tau_ref > 0, self.tau_ref / 2, torch.inf)

    @property
    def hold(self) -> Tensor:
        """The number of steps for which a spike holds V."""
        return steps_held(self.tau_ref, self.dt)

    def step(
        self,
        I: Tensor | Current,
        V: Tensor,
        V_p: Tensor,
        V_d: Tensor,
        held: Tensor,
        proximal: Tensor | Current | None = None,
        distal: Tensor | Current | None = None,
        delta: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        refractory = held > 0
        cell = ((V, I, self.g_L, self.C), (V_p, proximal, self.g_L_p, self.C_p), (V_d, distal, self.g_L_d, self.C_d))
        rates, slopes = zip(*(self.membrane(*compartment) for compartment in cell), strict=True)
        rates, slopes = ((torch.where(refractory, 0.0, soma), *others) for soma, *others in (rates, slopes))
        of_soma = torch.where(refractory, 0.0, self.g_sp / self.C)
        coupling = (of_soma, self.g_sp / self.C_p), (self.g_pd / self.C_p, self.g_pd / self.C_d)
        new, V_p, V_d = implicit_row((V, V_p, V_d), rates, slopes, coupling, self.dt)
        if delta is not None:
            new = torch.where(refractory, new, new + delta)
        spike, held = hold_after(self.fire(new - self.V_th), held, self.hold)
        return spike, self.reset_potential(new, spike, self.V_th, self.V_reset), V_p, V_d, held

    def membrane(self, V: Tensor, I: Tensor | Current | None, g: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        """The rate of the potential of one compartment by leak and input, and its slope."""
        into = torch.zeros_like(V) if I is None else I
        return with_slope(lambda v: (current(into, v) - g * (v - self.E_L)) / C, V)
