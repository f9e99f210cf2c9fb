from .expon import Expon
