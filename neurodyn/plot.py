"""Pictures; every function takes an Axes, or makes one, and returns it. Needs matplotlib: the extra ``plot``."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("neurodyn.plot needs matplotlib: pip install 'neurodyn[plot]'") from error
    return plt.subplots(layout="constrained")[1]


def raster(spikes: Tensor, *, dt: float = 1.0, ax: Any = None, **style: Any) -> Any:
    """A dot for every spike: time in ms across, neurons upwards.

    Args:
        spikes: ``(T, size)``, zero where there is no spike.
        dt: time step in ms.
        ax: axes to draw on.
        style: keywords of ``Axes.scatter``.
    """
    if spikes.dim() != 2:
        raise ValueError(f"raster: spikes must be (T, size), got {tuple(spikes.shape)}; choose one sample of the batch")
    ax = _axes(ax)
    time, neuron = spikes.detach().cpu().nonzero(as_tuple=True)
    ax.scatter(time * dt, neuron, **({"s": 2, "marker": "|", "linewidths": 0.8, "color": "black"} | style))
    ax.set(xlim=(0, len(spikes) * dt), ylim=(-1, spikes.shape[1]), xlabel="time (ms)", ylabel="neuron")
    return ax
