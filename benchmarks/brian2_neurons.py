"""What brian2_coba.py and brian2_plastic.py have in common: the neurons of COBA, and the build, run and result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import brian2 as b2
import numpy as np


def neurons(n: int, folder: Path) -> Any:
    """The neurons, for a C++ program in `folder`, with a time step of 0.1 ms."""
    b2.set_device("cpp_standalone", directory=str(folder / "code"), build_on_run=False)
    b2.defaultclock.dt = 0.1 * b2.ms
    return b2.NeuronGroup(
        n,
        """dv/dt = (ge*(0*mV - v) + gi*(-80*mV - v) - (v + 60*mV))/(20*ms) : volt (unless refractory)
        dge/dt = -ge/(5*ms) : 1
        dgi/dt = -gi/(10*ms) : 1""",
        threshold="v >= -50*mV",
        reset="v = -60*mV",
        refractory=5 * b2.ms,
        method="exponential_euler",
    )


def start(group: Any) -> None:
    """Potentials and conductances at the start."""
    group.v = "-65*mV + 5*mV*randn()"
    group.ge, group.gi = "4 + 1.5*randn()", "20 + 12*randn()"


def build_and_run(folder: Path) -> float:
    """Seconds that the run took."""
    b2.device.build(directory=str(folder / "code"), run=True, compile=True, with_output=False)
    info = (folder / "code" / "results").glob("last_run_info*.txt")
    return float(next(info).read_text().split()[0])


def save(folder: Path, elapsed: float, spikes: Any, **more: Any) -> None:
    """Time, spikes, and what else there is, as FOLDER/run.npz."""
    steps = np.round(spikes.t / b2.defaultclock.dt).astype(np.int64)
    np.savez(folder / "run.npz", elapsed=elapsed, steps=steps, neurons=np.asarray(spikes.i), **more)
