"""Learning online: gradients step by step, in memory that does not depend on the number of steps."""

from .drtrl import DRTRL
from .eprop import EProp
from .es_drtrl import ESDRTRL
from .learner import Learner
from .loop import unroll
from .ottt import OTTT
from .sltt import SLTT

__all__ = ["DRTRL", "ESDRTRL", "OTTT", "SLTT", "EProp", "Learner", "unroll"]
