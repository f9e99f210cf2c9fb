"""Weights and inputs of the networks that make_neurobench.py and test_operations.py share: the same in both."""

from __future__ import annotations

import itertools

import numpy as np

SIZES, STEPS, BATCH, BETA = (20, 64, 64, 35), 12, 5, 0.9
random = np.random.default_rng(7)

#: Of a network as in NeuroBench's example for speech commands, with a fifth of the weights pruned.
LINEAR = [random.normal(0, 2 / n**0.5, (m, n)) * (random.random((m, n)) > 0.2) for n, m in itertools.pairwise(SIZES)]
BIASES = [random.normal(0, 0.1, m) for m in SIZES[1:]]
#: Of a convolution with stride and padding, and the linear map behind it.
KERNEL, LAST = random.normal(0, 1, (4, 2, 3, 3)), random.normal(0, 0.5, (6, 4 * 4 * 4))

INPUTS = {
    "spikes": (random.random((STEPS, BATCH, 20)) < 0.2).astype(float),
    "graded": random.normal(0, 1, (STEPS, BATCH, 20)) * (random.random((STEPS, BATCH, 20)) < 0.5),
    "images": (random.random((STEPS, BATCH, 2, 8, 8)) < 0.1) * random.choice([-1.0, 1.0], (STEPS, BATCH, 2, 8, 8)),
}
INPUTS["mixed"] = np.where(np.arange(STEPS)[:, None, None] % 3 > 0, INPUTS["spikes"], INPUTS["graded"])
