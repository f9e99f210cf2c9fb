"""Exchange with other libraries in the Neuromorphic Intermediate Representation (NIR); see docs/scale.md.

Source: Pedersen et al. (2024), Neuromorphic intermediate representation: a unified instruction set for interoperable
brain-inspired computing, Nature Communications 15.
"""

from .errors import NIRError
from .graph import Graph
from .models import LI, PerfectIF, Scale
from .reader import from_nir
from .writer import to_nir

__all__ = ["LI", "Graph", "NIRError", "PerfectIF", "Scale", "from_nir", "to_nir"]
