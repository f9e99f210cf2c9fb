"""The way of spikes to a layer in continuous time: delays, a connection and a synapse."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..connections import Connection, Sparse
from ..delays.delay import Delay
from ..synapses import Expon
from .events_in_time import Spikes


class Path(NamedTuple):
    """What delays spikes, the connection, and the synapse."""

    delays: list[Delay]
    connection: nn.Module
    synapse: Expon

    @property
    def in_size(self) -> tuple[int, ...]:
        """Shape of what sends the spikes."""
        return _size(self.connection, "in")

    @property
    def out_size(self) -> tuple[int, ...]:
        """Shape of the neurons."""
        return _size(self.connection, "out")

    def spikes(self, times: Tensor, size: Tensor | None, label: str) -> Spikes:
        """What arrives of spikes, ``(batch, inputs, K)``, at the layer of this label.

        Raises:
            ValueError: weights or delays that are NaN or infinite.
        """
        weight, delay = _matrices(self.connection)
        refuse_infinite(weight, f"{label}: the weight of {named(self.connection)} before it")
        if delay is not None:
            refuse_infinite(delay, f"{label}: the delay of {named(self.connection)} before it")
        if self.delays:
            before = self.delay()
            refuse_infinite(before, f"{label}: the delay of its inputs")
            times = times + before.unsqueeze(-1)
        return Spikes(weight, delay, times, size)

    def delay(self) -> Tensor:
        """That of each input, before the connection."""
        return torch.stack([wide(delay.delay, self.in_size, delay._label(), "delay") for delay in self.delays]).sum(0)

    def tensors(self) -> list[Tensor]:
        """What must have one dtype."""
        return [self.connection.weight, self.synapse.tau, *[delay.delay for delay in self.delays]]  # type: ignore[list-item]

    def check(self, label: str) -> None:
        """Refuse parts whose sizes do not fit each other.

        Raises:
            ValueError: sizes that do not fit.
        """
        for delay in self.delays:
            if delay.size not in ((), self.in_size):
                raise ValueError(f"{label}: {delay._label()} stands before {named(self.connection)}, which takes "
                                 f"{self.in_size}; build it with that size")  # fmt: skip
        if self.synapse.size not in ((), self.out_size):
            raise ValueError(f"{label}: {self.synapse._label()} stands behind {named(self.connection)}, which gives "
                             f"{self.out_size}; build it with that size")  # fmt: skip


def wide(value: Tensor, size: tuple[int, ...], label: str, name: str) -> Tensor:
    """One value for each of `size`, in a row.

    Raises:
        ValueError: a shape that does not broadcast to `size`, as that of values of samples.
    """
    lead = max(value.dim() - len(size), 0)
    fits = all(n == 1 for n in value.shape[:lead])
    fits = fits and all(n in (1, m) for n, m in zip(value.shape[lead:][::-1], size[::-1], strict=False))
    if not fits:
        raise ValueError(
            f"{label}: {name} has shape {tuple(value.shape)}, and in continuous time there is one value for all or one "
            f"for each, {size}; run samples of other values one after the other"
        )
    return value.reshape(value.shape[lead:]).expand(size).flatten()


def refuse_infinite(value: Tensor, what: str) -> None:
    """Refuse NaN and infinities.

    Raises:
        ValueError: with what it is.
    """
    if not bool(value.isfinite().all()):
        kind = "NaN" if bool(value.isnan().any()) else "an infinity"
        raise ValueError(f"{what} holds {kind}, with which there are no spike times; an update has made it so, or "
                         "whoever set it")  # fmt: skip


def named(part: Any) -> str:
    """A part of a network, in words."""
    return part._label() if hasattr(part, "_label") else str(part)


def _size(connection: Any, side: str) -> tuple[int, ...]:
    found = getattr(connection, f"{side}_size", None)
    return (getattr(connection, f"{side}_features"),) if found is None else tuple(found)


def _matrices(connection: Any) -> tuple[Tensor, Tensor | None]:
    """Weights and delays (outputs, inputs)."""
    if not isinstance(connection, Sparse):
        return connection.matrix() if isinstance(connection, Connection) else connection.weight, None
    shape = math.prod(connection.out_size), math.prod(connection.in_size)
    place = connection.post_index.long() * shape[1] + connection.pre_index
    weight = _placed(connection.weight, place, shape)
    if connection.delay is None:
        return weight, None
    if len(place.unique()) < len(place):
        raise ValueError(
            f"{connection._label()}: two neurons have several synapses with delays of their own; in continuous time "
            "there can be one for each pair"
        )
    return weight, _placed(connection.delay, place, shape)


def _placed(values: Tensor, place: Tensor, shape: tuple[int, int]) -> Tensor:
    flat = values.new_zeros(shape[0] * shape[1])
    return flat.index_add(0, place, values.expand(place.shape)).view(shape)
