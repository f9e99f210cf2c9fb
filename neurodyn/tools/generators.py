"""The global random generators of Python, NumPy and torch: their states, to compare and to put back."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def generator_states() -> list[Any]:
    """The states of all of them, as bytes where they are arrays or tensors, so that two can be compared."""
    state: Any = np.random.get_state()  # noqa: NPY002
    kind, words, *rest = state
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return [
        random.getstate(),
        (kind, words.tobytes(), *rest),
        [x.numpy().tobytes() for x in (torch.get_rng_state(), *cuda)],
    ]


def restore_generators(held: list[Any]) -> None:
    """Put such states back, but for those that are None."""
    if held[0] is not None:
        random.setstate(held[0])
    if held[1] is not None:
        kind, words, *rest = held[1]
        np.random.set_state((kind, np.frombuffer(words, np.uint32), *rest))  # noqa: NPY002
    if held[2] is not None:
        own, *cuda = [torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in held[2]]
        torch.set_rng_state(own)
        for device, state in enumerate(cuda):
            torch.cuda.set_rng_state(state, device)


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Afterwards all global random numbers go on as if none had been drawn."""
    held = generator_states()
    try:
        yield
    finally:
        restore_generators(held)
