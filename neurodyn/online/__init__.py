"""Learning online: gradients step by step, in memory that does not depend on the number of steps."""

from .drtrl import DRTRL
from .learner import Learner

__all__ = ["DRTRL", "Learner"]
