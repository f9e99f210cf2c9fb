"""Reference numbers of elephant for tests/test_analysis.py.

Usage: pip install elephant; python tests/reference/make_elephant.py. Prints the numbers.
"""

from __future__ import annotations

import elephant
import neo
import numpy as np
import quantities as pq
from elephant.spike_train_dissimilarity import van_rossum_distance
from elephant.sta import spike_triggered_average
from elephant.statistics import cv, fanofactor, isi, mean_firing_rate

T, N = 2000, 3
steps = np.arange(T)
# Deterministic and irregular: neuron i spikes where the fractional part of a quadratic is below its rate.
spikes = np.stack([(steps * steps * 0.6180339887 * (i + 1) + 0.3 * steps) % 1 < 0.02 * (i + 1) for i in range(N)], 1)
stimulus = np.sin(steps / 7.0) + 0.5 * np.cos(steps / 31.0)
trains = [neo.SpikeTrain(np.nonzero(s)[0] * 0.5, units="ms", t_stop=T * 0.5) for s in spikes.T]
signal = neo.AnalogSignal(stimulus[:, None], units="mV", sampling_period=0.5 * pq.ms)

print("elephant", elephant.__version__)
print("rates", [float(mean_firing_rate(s).rescale("Hz")) for s in trains])
print("cv", [float(cv(isi(s))) for s in trains])
starts = np.arange(0, T * 0.5, 50.0)  # a slice holds the spikes at both of its ends
windows = [[train.time_slice(t * pq.ms, (t + 49.75) * pq.ms) for t in starts] for train in trains]
print("fano", [float(fanofactor(slices)) for slices in windows])
print("van_rossum", van_rossum_distance(trains, 10 * pq.ms, sort=False).tolist())
sta = [spike_triggered_average(signal, s, (-4.5 * pq.ms, 0.5 * pq.ms)).magnitude[:, 0] for s in trains]
print("sta", [x.tolist() for x in sta])
