"""Statistics of spikes, which take `Events` or a tensor ``(T, *batch, *size)`` with ``dt=``, and counts of operations.

For more (spectra, spike train synchrony, unitary events, surrogates): ``events.to_neo()`` and elephant.
"""

from .distance import van_rossum_distance
from .irregularity import fano_factor, intervals, isi_cv
from .operations import Operations, SynapticOperations, synaptic_operations
from .rates import counts, population_rate, rates
from .response import f_I_curve
from .triggered import spike_triggered_average

__all__ = [
    "Operations",
    "SynapticOperations",
    "counts",
    "f_I_curve",
    "fano_factor",
    "intervals",
    "isi_cv",
    "population_rate",
    "rates",
    "spike_triggered_average",
    "synaptic_operations",
    "van_rossum_distance",
]
