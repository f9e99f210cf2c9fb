"""Pictures; every function takes an Axes, or makes one, and returns it. Needs matplotlib: the extra ``plot``.

They read the records of `simulate` and of ``unroll(record=)``, and plain tensors. Colours are those of Okabe and Ito,
which readers with any colour vision tell apart.
"""

from .curves import f_I
from .phase_plane import phase_plane
from .spikes import activity, population_rate, raster
from .style import COLORS, LEGEND
from .traces import traces
from .weights import weight_matrix

__all__ = [
    "COLORS",
    "LEGEND",
    "activity",
    "f_I",
    "phase_plane",
    "population_rate",
    "raster",
    "traces",
    "weight_matrix",
]
