"""The layers of a network in continuous time, taken from its modules."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..connections import Connection, Sparse
from ..delays.delay import Delay
from ..networks.projection import Projection
from ..networks.recurrent import Recurrent
from ..neurons import LIF
from ..synapses import Expon
from .events_in_time import Neurons, Spikes, recurrent, simulate
from .implicit import attached

WANTED = (
    "an nn.Sequential of layers: nd.Delay if wanted, a connection without bias (nn.Linear(bias=False), nd.AllToAll, "
    "nd.OneToOne, nd.MaskedLinear, nd.Sparse, ...), nd.Expon, and nd.LIF or nd.Recurrent(nd.LIF, feedback) with the "
    "feedback nd.Projection(connection, synapse=nd.Expon)"
)
_MOST = 10_000  # spikes of a recurrent neuron; more are spikes that make more spikes without end


class Path(NamedTuple):
    """The way of spikes to a layer: what delays them, and the connection."""

    delays: list[Delay]
    connection: nn.Module
    synapse: Expon

    @property
    def inputs(self) -> int:
        """How many inputs the connection takes."""
        sizes = getattr(self.connection, "in_size", None)
        return self.connection.in_features if sizes is None else math.prod(sizes)  # type: ignore[return-value]

    def spikes(self, times: Tensor, size: Tensor | None = None) -> Spikes:
        """What arrives of spikes, ``(batch, inputs, K)``."""
        times = times + self.delay().unsqueeze(-1) if self.delays else times
        return Spikes(*_matrices(self.connection), times, size)

    def delay(self) -> Tensor:
        """That of each input, before the connection."""
        total = torch.zeros(self.inputs, dtype=self.synapse.tau.dtype, device=self.synapse.tau.device)
        for delay in self.delays:
            total = total + delay.delay.flatten()
        return total


class Layer(NamedTuple):
    """Neurons, the path to them, and for recurrent ones the path back."""

    path: Path
    neuron: LIF
    back: Path | None

    def run(self, times: Tensor, size: Tensor | None, until: float) -> Tensor:
        """The spike times (batch, outputs, M), with their gradient if there is any.

        Raises:
            ValueError: parameters or sizes that do not fit.
            RuntimeError: spikes without end.
        """
        given, neurons = self.path.spikes(times, size), self._neurons()
        N, inputs = given.weight.shape
        if times.shape[1] != inputs or (self.neuron.size and math.prod(self.neuron.size) != N):
            raise ValueError(
                f"{self.neuron._label()}: {times.shape[1]} inputs reach it through a connection of {inputs} to {N}"
            )
        wide = Neurons(*[value.flatten().expand(N) for value in neurons])
        tau_back = self._tau_back(wide)
        with torch.no_grad():
            found = self._found(given, wide, until)
        if not torch.is_grad_enabled():
            return found
        back = None if self.back is None else self.back.spikes(found.detach())
        return attached(found, given, wide, back, tau_back)

    def _neurons(self) -> Neurons:
        neuron = self.neuron
        height, jump = neuron.V_th - neuron.V_rest, neuron.V_th - neuron.V_reset
        if not bool((height > 0).all() and (jump > 0).all()):
            raise ValueError(f"{neuron._label()} must have V_th above V_rest and V_reset")
        return Neurons(neuron.tau, self.path.synapse.tau, neuron.R, height, jump)

    def _tau_back(self, neurons: Neurons) -> Tensor:
        if self.back is None:
            return neurons.tau_s
        tau = self.back.synapse.tau.flatten().expand_as(neurons.tau_s)
        if not torch.equal(tau, neurons.tau_s):
            raise ValueError(
                f"{self.neuron._label()}: the synapses of the input and of the feedback have different tau, for which "
                "there is no closed form; give both nd.Expon the same"
            )
        return tau

    def _found(self, given: Spikes, neurons: Neurons, until: float) -> Tensor:
        if self.back is None:
            return simulate(given, neurons, until)
        delays = torch.zeros(1, len(neurons.tau), 1, dtype=given.times.dtype, device=given.times.device)
        found = recurrent(given, self.back.spikes(delays), neurons, until, _MOST)
        if found is None:
            raise RuntimeError(
                f"{self.neuron._label()}: the feedback makes a neuron spike more than {_MOST} times until {until:g} "
                "ms; weaken it, or give its nd.Projection a delay=nd.Delay(...)"
            )
        return found


def layers_of(net: nn.Module, name: str) -> list[Layer]:
    """The layers of a network.

    Raises:
        TypeError: parts of another kind, or in another order.
    """
    parts, found = _parts(net), []
    kinds = ", ".join(type(part).__name__ for part in parts) or "nothing"
    while parts:
        path, neuron = _path(parts, kinds, name), parts.pop(0) if parts else None
        back = None
        if type(neuron) is Recurrent:
            feedback = _parts(neuron.feedback)
            inside = f"{kinds}, with the feedback {', '.join(type(part).__name__ for part in feedback)}"
            back, neuron = _path(feedback, inside, name), neuron.cell
            if feedback:
                raise TypeError(f"{name}: wanted {WANTED}; got {inside}")
        if type(neuron) is not LIF:
            raise TypeError(f"{name}: wanted {WANTED}; got {kinds}")
        found.append(Layer(path, neuron, back))
    return found


def _parts(net: nn.Module) -> list[nn.Module]:
    if isinstance(net, nn.Sequential):
        return [part for child in net for part in _parts(child)]
    plain = isinstance(net, Projection) and net.align == "post" and net.output is None and net.plasticity is None
    return net.stages() if plain else [net]  # type: ignore[operator]


def _path(parts: list[Any], kinds: str, name: str) -> Path:
    """Takes a path from the front of `parts`."""
    delays = []
    while parts and isinstance(parts[0], Delay):
        delays.append(parts.pop(0))
    if len(parts) < 2 or type(parts[1]) is not Expon or not isinstance(parts[0], (nn.Linear, Connection, Sparse)):
        raise TypeError(f"{name}: wanted {WANTED}; got {kinds}")
    connection = parts.pop(0)
    if connection.bias is not None:
        raise TypeError(f"{name}: {connection} has a bias, a jump at no moment; build it with bias=False. Got {kinds}")
    return Path(delays, connection, parts.pop(0))


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
