"""``neurodyn train``: a spiking network learns to tell speakers, or digits, apart."""

from .folder import RunError
from .loop import train
from .network import Classifier

__all__ = ["Classifier", "RunError", "train"]
