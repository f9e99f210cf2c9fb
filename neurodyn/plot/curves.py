"""Curves of a neuron."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .. import analysis
from .. import units as u
from ..record import Events
from .style import COLORS, LEGEND, array, axes, label


def f_I(currents: u.Quantity, rates: u.Quantity | Events | Tensor, *, ax: Any = None, **style: Any) -> Any:
    """Rate against constant current, a line for each neuron.

    Args:
        currents: a quantity ``(n,)``.
        rates: for each current the rate of each neuron, ``(n,)`` or ``(n, size)``: what `analysis.f_I_curve` gives,
            `Events` of a batch of n currents, or a tensor in Hz.
        ax: axes to draw on.
        style: keywords of ``Axes.plot``.
    """
    if not u.is_quantity(currents):
        raise TypeError(f"f_I: currents need a unit, for example currents * u.pA; got {type(currents).__name__}")
    found: Any = analysis.rates(rates) if isinstance(rates, Events) else rates
    found = array(found.to("Hz") if u.is_quantity(found) else found)
    lines = found.reshape(len(found), -1)
    if len(lines) != len(array(currents)):
        raise ValueError(f"f_I: {len(array(currents))} currents, and rates for {len(lines)}")
    ax = axes(ax)
    for k, line in enumerate(lines.T):
        ax.plot(array(currents), line, **({"color": COLORS[k % len(COLORS)], "marker": ".", "label": f"{k}"} | style))
    if lines.shape[1] > 1:
        ax.legend(title="neuron", **LEGEND)
    ax.set(xlabel=label("current", currents.units), ylabel="rate (Hz)")
    ax.set_ylim(bottom=0)
    return ax
