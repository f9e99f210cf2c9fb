"""The inputs of the STDP example, the same for Brian2 and for the tests: the numbers of RandomState never change."""

from __future__ import annotations

import numpy as np

N, STEPS, G_MAX = 1000, 1_000_000, 0.01  # inputs, steps of 0.1 ms, the bound of the weights
#: Steps after which the weights are recorded.
TIMES = (20_000, 200_000, STEPS)


def inputs(seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps and inputs of Poisson spikes of 15 Hz, in the order of time, at most one an input and step; weights."""
    random = np.random.RandomState(seed)
    counts = random.poisson(15 * STEPS * 1e-4, N)
    places = np.unique(random.randint(STEPS, size=counts.sum()) * N + np.repeat(np.arange(N), counts))
    return places // N, places % N, random.random_sample(N) * G_MAX
