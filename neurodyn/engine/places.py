"""The arguments of a chunk, and where along a sequence each chunk finds them.

`FORWARD` and `BACKWARD` are the one declaration: the graph of a chunk, the loop in Python and the loop in C++ use it.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Place(enum.Enum):
    """Where the i-th chunk finds an argument."""

    WHOLE = enum.auto()  #: the same tensor for every chunk
    STEPS = enum.auto()  #: the steps of the chunk, in one tensor with time in front
    EACH_STEP = enum.auto()  #: the same, with an argument for each step
    BEFORE = enum.auto()  #: a row for what lies before the chunk ...
    AFTER = enum.auto()  #: ... and the next one for what comes out of it
    READ_IN_TURN = enum.auto()  #: of two rows that take turns, for what is not kept, the one that this chunk reads ...
    WRITTEN_IN_TURN = enum.auto()  #: ... and the one that it writes


P = Place
#: The arguments of a forward chunk, in order. It writes new_states, outs and products.
FORWARD = {
    "states": P.BEFORE,
    "constants": P.WHOLE,
    "xs": P.STEPS,
    "new_states": P.AFTER,
    "outs": P.EACH_STEP,
    "products": P.EACH_STEP,
    "values": P.WHOLE,
}
#: Those of a backward chunk, which computes the steps again from the states before them. It writes the last gradients.
BACKWARD = {
    "states": P.BEFORE,
    "constants": P.WHOLE,
    "xs": P.STEPS,
    "products": P.EACH_STEP,
    "grad_new_states": P.READ_IN_TURN,
    "grad_outs": P.STEPS,
    "grad_states": P.WRITTEN_IN_TURN,
    "grad_xs": P.EACH_STEP,
    "sums": P.WHOLE,
    "values": P.WHOLE,
}
#: A forward chunk without a history of states.
FORWARD_ONLY = FORWARD | {"states": P.READ_IN_TURN, "new_states": P.WRITTEN_IN_TURN}


class Rows(NamedTuple):
    """Where the arguments of a group lie in its tensors: chunk i finds them ``step * i`` rows after `first`.

    Attributes:
        first: a row for each argument that a tensor makes.
        in_turn: it is ``step * turn`` rows instead, where turn is 0 and 1 by turns; a tensor of one row has no other.
    """

    first: list[int]
    step: int
    in_turn: bool = False


class Stretch(NamedTuple):
    """Chunks of one length in a row, a part of a sequence.

    Attributes:
        step: the first step of chunk 0.
        row: the row of the history before chunk 0.
        chunks: which chunks, in the order of the calls.
        turn: of the two rows that take turns, the one that the first call reads.
        steps: how many a chunk has.
    """

    step: int
    row: int
    chunks: range
    turn: int = 0
    steps: int = 0

    def rows(self, place: Place) -> Rows:
        """Where chunks find arguments of this place, which is not `Place.WHOLE`."""
        match place:
            case P.STEPS:
                return Rows([self.step], self.steps)
            case P.EACH_STEP:
                return Rows([self.step + k for k in range(self.steps)], self.steps)
            case P.BEFORE:
                return Rows([self.row], 1)
            case P.AFTER:
                return Rows([self.row + 1], 1)
            case P.READ_IN_TURN:
                return Rows([0], 1, in_turn=True)
        return Rows([1], -1, in_turn=True)
