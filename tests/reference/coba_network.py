"""Connections and initial states of COBA networks, for neurodyn and Brian2 alike; needs NumPy alone."""

from __future__ import annotations

import numpy as np

NEURONS, EXCITATORY, PROBABILITY = 4000, 3200, 0.02


def connections(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices (pre, post) of the synapses of excitatory neurons, and of the inhibitory ones, counted from 0 each."""
    random = np.random.default_rng([seed, 0])
    sizes = EXCITATORY, NEURONS - EXCITATORY
    return [np.nonzero(random.random((size, NEURONS)) < PROBABILITY) for size in sizes]


def start(seed: int, run: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """V in mV, and both conductances in units of the leak, before the first step."""
    random = np.random.default_rng([seed, 1 + run])
    V, g_E, g_I = random.standard_normal((3, NEURONS))
    return -65 + 5 * V, 4 + 1.5 * g_E, 20 + 12 * g_I


def irregularity(steps: np.ndarray, neurons: np.ndarray) -> float:
    """Mean coefficient of variation of the intervals of neurons with at least five of them; NaN without any."""
    order = np.lexsort((steps, neurons))
    steps, neurons = steps[order], neurons[order]
    interval, same = np.diff(steps).astype(float), np.diff(neurons) == 0
    interval, neuron = interval[same], neurons[1:][same]
    count = np.bincount(neuron)
    mean = np.bincount(neuron, interval) / np.maximum(count, 1)
    square = np.bincount(neuron, interval**2) / np.maximum(count, 1)
    enough = count >= 5
    return float((np.sqrt(np.maximum(square - mean**2, 0))[enough] / mean[enough]).mean()) if enough.any() else np.nan
