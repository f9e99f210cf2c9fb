from .stp import STD, STP
