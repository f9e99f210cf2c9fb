"""Every model of neurodyn, once: the contract tests walk over this list. A new model adds one entry.

`MODELS` act on each neuron by itself. `BESIDE` holds the other layers with states, see test_beside.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import neurodyn as nd
from neurodyn import units as u
from neurodyn.readouts import LeakySpike


@dataclass(frozen=True)
class Model:
    """A model, how to build it, and an input that makes it do something.

    Attributes:
        build: ``build(size, **values)``.
        drive: kind of input, a key of `DRIVES`.
        values: keywords without which the model is not interesting, or not complete.
        spiking: whether its output is a spike train (its step has a jump).
        quiet: kind of input that keeps a spiking model below threshold.
        fixed: parameters that cannot be learned.
        detached: whether its reset cuts the gradient off V, which is then not the derivative of the step.
        steps: after so many steps with `drive` it has spiked.
    """

    name: str
    build: Callable[..., nd.Dynamics]
    drive: str
    values: dict[str, Any] = field(default_factory=dict)
    spiking: bool = False
    quiet: str = "weak"
    fixed: tuple[str, ...] = ()
    detached: bool = False
    steps: int = 16

    def __call__(self, size: int | tuple[int, ...] = 5, **values: Any) -> nd.Dynamics:
        return self.build(size, **(self.values | values))

    def input(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, drive: str | None = None) -> Tensor:
        """An input of this shape, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        return DRIVES[drive or self.drive](torch.rand(shape, generator=generator, dtype=torch.float64)).to(dtype)


#: From uniform random numbers in [0, 1) to inputs.
DRIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "current": lambda r: 3 * r,  # pA into 1 Gohm: crosses a threshold of 1 mV
    "current-20": lambda r: 20 * r,
    "current-200": lambda r: 200 * r,
    "current-2000": lambda r: 2000 * r,
    "weak": lambda r: 0.8 * r,
    "faint": lambda r: 0.15 * r,  # keeps an LIF of unit gain, whose R is 5.5 Gohm, below its threshold of 1 mV
    "weak-300": lambda r: 300 * r,
    "spikes": lambda r: (r < 0.2).to(r.dtype),
    "jumps": lambda r: torch.where(r < 0.3, r, 0.0),  # nS
}

R = {"R": 1 * u.Gohm}
MODELS = [
    Model("LIF", nd.LIF, "current", spiking=True, quiet="faint"),
    Model("LIF-hard", nd.LIF, "current", {"reset": "hard", "V_reset": -0.3 * u.mV} | R, spiking=True, detached=True),
    Model(
        "LIF-attached",
        nd.LIF,
        "current",
        {"reset": "hard", "reset_gradient": "attached", "V_reset": -0.3 * u.mV, "surrogate_scale": 1 * u.mV} | R,
        spiking=True,
    ),
    Model("IF", nd.IF, "current", R, spiking=True),
    Model("LIFRef", nd.LIFRef, "current", R, spiking=True, fixed=("tau_ref", "held_initializer")),
    Model("ALIF", nd.ALIF, "current", R, spiking=True),
    Model("AdLIF", nd.AdLIF, "current", R, spiking=True),
    Model("BRF", nd.BRF, "current", spiking=True, quiet="faint"),
    Model("ExpIF", nd.ExpIF, "current-20", spiking=True),
    Model("AdEx", nd.AdEx, "current-2000", spiking=True, quiet="weak-300"),
    Model("QuaIF", nd.QuaIF, "current-200", spiking=True),
    Model("Izhikevich", nd.Izhikevich, "current-20", {"dt": 0.25 * u.ms}, spiking=True),
    Model("HH", nd.HH, "current-20", {"dt": 0.1 * u.ms}, spiking=True, steps=64),
    Model("MorrisLecar", nd.MorrisLecar, "current-200", spiking=True, steps=64),
    Model("PinskyRinzel", nd.PinskyRinzel, "current-200", {"dt": 0.1 * u.ms}, spiking=True, steps=32),
    Model(
        "ThreeCompartments",
        nd.ThreeCompartments,
        "current-2000",
        spiking=True,
        quiet="weak-300",
        fixed=("tau_ref", "held_initializer"),
        detached=True,
    ),
    Model("GIF", nd.GIF, "current-20", {"a": 0.005 / u.ms, "A1": 5 * u.pA, "A2": -0.3 * u.pA}, spiking=True),
    Model("Expon", nd.Expon, "jumps"),
    Model("DeltaEncoder", nd.DeltaEncoder, "current", spiking=True),
    Model("OU", nd.OU, "weak", {"mean": 1 * u.pA}),
    Model("LeakySpike", LeakySpike, "current", spiking=True),
    Model("DualExpon", nd.DualExpon, "jumps"),
    Model("Alpha", nd.Alpha, "jumps"),
    Model("AMPA", nd.AMPA, "spikes", {"T_dur": 1.5 * u.ms}, fixed=("T_dur",)),
    Model("GABAa", nd.GABAa, "spikes", {"T_dur": 2.5 * u.ms}, fixed=("T_dur",)),
    Model("NMDA", nd.NMDA, "spikes"),
    Model("STP", nd.STP, "spikes"),
    Model("STPInactive", nd.STPInactive, "spikes"),
    Model("STP-brainstate", nd.STP, "spikes", {"rule": "brainstate"}),
    Model("STD", nd.STD, "spikes"),
    Model("STD-brainstate", nd.STD, "spikes", {"rule": "brainstate"}),
]

BESIDE = [
    Model("RNNCell", lambda size, **values: nd.RNNCell(3, size, **values), "weak"),
    Model("LSTMCell", lambda size, **values: nd.LSTMCell(3, size, **values), "weak"),
    Model("GRUCell", lambda size, **values: nd.GRUCell(3, size, **values), "weak"),
    Model("MGUCell", lambda size, **values: nd.MGUCell(3, size, **values), "weak"),
    Model("URLSTMCell", lambda size, **values: nd.URLSTMCell(3, size, **values), "weak"),
    Model("FixedDropout", nd.FixedDropout, "weak", {"prob": 0.3}),
    Model("Delay", lambda size, **values: nd.Delay(size, 2.4 * u.ms, interpolation="linear", **values), "weak"),
    Model("LeakyRateReadout", lambda size, **values: nd.LeakyRateReadout(3, size, **values), "weak"),
    Model("LeakySpikeReadout", lambda size, **values: nd.LeakySpikeReadout(3, size, **values), "current", spiking=True),
    Model("Recurrent", lambda size, **values: nd.Recurrent(nd.Expon(size, **values), nn.Linear(size, size)), "weak"),
]
