"""Files that the command line writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def write_spikes(path: Path, spikes: Any) -> None:
    """The spikes as arrays, ``times`` in ms and ``neurons`` with ``dt``, ``duration`` and ``size``, or as lines."""
    times, neurons = spikes.times.magnitude.cpu().numpy(), spikes.neurons.cpu().numpy()
    if path.suffix == ".csv":
        rows = np.column_stack((times, neurons))
        np.savetxt(path, rows, ("%.10g", "%d"), ",", header="time (ms),neuron", comments="")
    else:
        end = (spikes.stop - spikes.start) * spikes.dt
        np.savez(path, times=times, neurons=neurons, dt=spikes.dt, duration=end, size=spikes.shape[-1])
