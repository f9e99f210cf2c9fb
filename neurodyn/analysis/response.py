"""How a neuron answers to a constant current."""

from __future__ import annotations

from typing import Any

import torch

from .. import units as u
from ..core.fields import check
from ..neurons.base import Firing
from ..record import Events
from ..run.simulate import simulate


def f_I_curve(
    neuron: Firing, currents: Any, duration: Any = 1 * u.s, *, settle: Any = 0 * u.ms, compile: bool = True
) -> u.Quantity:
    """Rate of each neuron for each constant current, in Hz: ``(currents, *size)``.

    Args:
        neuron: a spiking neuron; its states are left at the end of the run.
        currents: a quantity with one dimension, such as ``torch.linspace(0, 2, 20) * u.pA``.
        duration: time over which spikes are counted.
        settle: time before that.
        compile: see `simulate`.

    Example:
        >>> neuron = nd.LIF(1, tau=10 * u.ms, R=1 * u.Gohm, dt=0.1 * u.ms)  # threshold at 1 pA
        >>> nd.analysis.f_I_curve(neuron, [0.9, 1.1, 2.0] * u.pA, compile=False).magnitude[:, 0].tolist()
        [0.0, 41.0, 143.0]
    """
    first = next(iter(neuron.buffers()), next(iter(neuron.parameters()), None))
    assert first is not None
    label = "f_I_curve: currents"
    n = len(u.to_canonical(currents)) if u.is_quantity(currents) else 1  # type: ignore[arg-type]
    I = check(currents, u.canonical_unit("pA"), (n,), label, first.device, first.dtype)
    inputs = I.view(n, *(1 for _ in neuron.size)).expand(n, *neuron.size).contiguous()
    options = {"batch": (n,), "progress": False, "compile": compile}
    states, step = None, 0
    if u.to_canonical(settle):
        settled = simulate(neuron, settle, inputs, **options)  # type: ignore[arg-type]
        states, step = settled.states, settled.step
    recording = simulate(neuron, duration, inputs, "spikes", states=states, start=step, **options)  # type: ignore
    events: Events = recording["spikes"]
    return u.quantity(events.rates.magnitude.to(torch.get_default_dtype()), "Hz")
