"""Networks from the literature, to run by name: ``NETWORKS["coba"].build(scale=1)`` and ``.run(net, 1 * u.s)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from .. import units as u
from ..record import Recording
from . import (
    brunel,
    decision,
    hodgkin_huxley,
    inhibitory_plasticity,
    microcircuit,
    synfire,
    vogels_abbott,
    wang_buzsaki,
    working_memory,
)


class Network(NamedTuple):
    """An example network.

    Attributes:
        build: ``build(scale=1, seed=0, device=None, dtype=None)``; `scale` is the size relative to the paper's.
        run: ``run(net, duration, **options)``, a `Recording` of "spikes"; options of `neurodyn.simulate`.
        about: one line.
        synapses: ``synapses(scale)``, about how many it has.
        transient: for so long it settles, in ms; 0 if it does not.
        rates: the groups whose rates a picture shows; all neurons together, or E and I, if there are none.
        window: in which a picture counts spikes for the rates, in ms.
    """

    build: Callable[..., nn.Module]
    run: Callable[..., Recording]
    about: str
    synapses: Callable[[float], float]
    transient: float = 0.0
    rates: tuple[str, ...] = ()
    window: float = 5.0


#: The time step of all of them but gamma, of which it is ten.
DT = 0.1 * u.ms

NETWORKS = {
    "coba": Network(
        vogels_abbott.coba,
        vogels_abbott.run,
        "Vogels and Abbott 2005, conductance-based synapses",
        lambda scale: 3.2e5 * scale,
        200.0,
    ),
    "cuba": Network(
        vogels_abbott.cuba,
        vogels_abbott.run,
        "Vogels and Abbott 2005, current-based synapses",
        lambda scale: 3.2e5 * scale,
        200.0,
    ),
    "cobahh": Network(
        hodgkin_huxley.CobaHH,
        vogels_abbott.run,
        "Brette and others 2007, Hodgkin-Huxley neurons",
        lambda scale: 3.2e5 * scale,
        200.0,
    ),
    "brunel": Network(
        brunel.Brunel,
        brunel.run,
        "Brunel 2000, asynchronous irregular state",
        lambda scale: 1.6e7 * scale**2,
        100.0,
    ),
    "memory": Network(
        working_memory.WorkingMemory,
        working_memory.run,
        "Mongillo, Barak and Tsodyks 2008",
        lambda scale: 2e7 * scale**2,
    ),
    "synfire": Network(
        synfire.SynfireChain,
        synfire.run,
        "Diesmann, Gewaltig and Aertsen 1999, synfire chain",
        lambda scale: 0,  # groups are connected as wholes
    ),
    "microcircuit": Network(
        microcircuit.Microcircuit,
        microcircuit.run,
        "Potjans and Diesmann 2014, cortical microcircuit",
        lambda scale: 2.99e8 * scale**2,
        100.0,
    ),
    "balance": Network(
        inhibitory_plasticity.InhibitoryPlasticity,
        inhibitory_plasticity.run,
        "Vogels and others 2011, inhibitory synaptic plasticity",
        lambda scale: 1e3 * scale * min(200, 1e3 * scale),
    ),
    "gamma": Network(
        wang_buzsaki.WangBuzsaki,
        wang_buzsaki.run,
        "Wang and Buzsaki 1996, gamma oscillation of interneurons",
        lambda scale: 100 * scale * min(60, 100 * scale - 1),
        200.0,
    ),
    "decision": Network(
        decision.Decision,
        decision.run,
        "Wang 2002, decision between two alternatives",
        lambda scale: 0,  # groups are connected as wholes
        200.0,
        ("A", "B"),
        20.0,
    ),
}

__all__ = ["DT", "NETWORKS", "Network"]
