"""The layers of a network in continuous time, taken from its modules."""

from __future__ import annotations

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
from .path import Path, named, refuse_infinite, wide

WANTED = (
    "an nn.Sequential of layers: nd.Delay if wanted, a connection without bias (nn.Linear(bias=False), nd.AllToAll, "
    "nd.OneToOne, nd.MaskedLinear, nd.Sparse, ...), nd.Expon, and nd.LIF or nd.Recurrent(nd.LIF, feedback) with the "
    "feedback nd.Projection(connection, synapse=nd.Expon)"
)
_MOST = 10_000  # spikes of a neuron; more are weights far too large, or spikes that make more spikes without end


class Layer(NamedTuple):
    """Neurons, the path to them, and for recurrent ones the path back."""

    path: Path
    neuron: LIF
    back: Path | None
    label: str

    def run(self, times: Tensor, size: Tensor | None, until: float) -> Tensor:
        """The spike times (batch, outputs, M), with their gradient if there is any.

        Raises:
            ValueError: parameters that do not fit, or that are NaN or infinite.
            RuntimeError: spikes without end.
        """
        given, neurons = self.path.spikes(times, size, self.label), self._neurons()
        tau_back = self._tau_back(neurons)
        with torch.no_grad():
            found = self._found(given, neurons, until)
        if not torch.is_grad_enabled():
            return found
        back = None if self.back is None else self.back.spikes(found.detach(), None, self.label)
        return attached(found, given, neurons, back, tau_back)

    def check(self) -> None:
        """Refuse parts whose sizes or dtypes do not fit each other.

        Raises:
            ValueError: sizes that do not fit.
            TypeError: half precision, or several dtypes.
        """
        self.path.check(self.label)
        neurons = self.path.out_size
        if self.neuron.size not in ((), neurons):
            raise ValueError(f"{self.label} stands behind {named(self.path.connection)}, which gives {neurons}")
        if self.back is not None:
            self.back.check(f"{self.label}, in its feedback")
            if not self.back.in_size == self.back.out_size == neurons:
                raise ValueError(
                    f"{self.label}: its feedback, {named(self.back.connection)}, takes {self.back.in_size} and gives "
                    f"{self.back.out_size}; wanted {neurons} on both sides, that of the layer"
                )
        found = {part.dtype for path in (self.path, self.back) if path for part in path.tensors()}
        found |= {self.neuron.V_th.dtype}
        if len(found) > 1 or not found <= {torch.float32, torch.float64}:
            raise TypeError(
                f"{self.label} and what leads to it are in {', '.join(sorted(map(str, found)))}; spike times are "
                "computed in float32 or float64: call net.float() or net.double()"
            )

    def _neurons(self) -> Neurons:
        neuron, size = self.neuron, self.path.out_size
        names = ("tau", "R", "V_th", "V_rest", "V_reset")
        tau, R, V_th, V_rest, V_reset = [self._wide(neuron, name, size) for name in names]
        height, jump = V_th - V_rest, V_th - V_reset
        if not bool((height > 0).all() and (jump > 0).all()):
            raise ValueError(f"{self.label} must have V_th above V_rest and V_reset")
        return Neurons(tau, self._wide(self.path.synapse, "tau", size), R, height, jump)

    def _wide(self, part: Any, name: str, size: tuple[int, ...]) -> Tensor:
        label = self.label if part is self.neuron else f"{self.label}, {part._label()}"
        value = getattr(part, name)
        refuse_infinite(value, f"{label}: {name}")
        return wide(value, size, label, name)

    def _tau_back(self, neurons: Neurons) -> Tensor:
        if self.back is None:
            return neurons.tau_s
        tau = self._wide(self.back.synapse, "tau", self.path.out_size)
        if not torch.equal(tau, neurons.tau_s):
            raise ValueError(
                f"{self.label}: the synapses of the input and of the feedback have different tau, for which "
                "there is no closed form; give both nd.Expon the same"
            )
        return tau

    def _found(self, given: Spikes, neurons: Neurons, until: float) -> Tensor:
        if self.back is None:
            found = simulate(given, neurons, until, _MOST)
        else:
            none = torch.zeros(1, len(neurons.tau), 1, dtype=given.times.dtype, device=given.times.device)
            found = recurrent(given, self.back.spikes(none, None, self.label), neurons, until, _MOST)
        if found is None:
            also = "" if self.back is None else ", or give its nd.Projection a delay=nd.Delay(...)"
            raise RuntimeError(
                f"{self.label}: a neuron would spike more than {_MOST} times until {until:g} ms; make "
                f"{'its weights' if self.back is None else 'its weights or those of its feedback'} smaller{also}"
            )
        return found


def layers_of(net: nn.Module, name: str) -> list[Layer]:
    """The layers of a network.

    Raises:
        TypeError: parts of another kind, in another order, or of a dtype that is not taken.
        ValueError: sizes that do not fit.
    """
    parts, found, names = _parts(net), [], {id(module): name for name, module in net.named_modules()}
    kinds = ", ".join(type(part).__name__ for part in parts)
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
        layer = Layer(path, neuron, back, f"{names[id(neuron)]!r}, {neuron._label()}")
        layer.check()
        if found and found[-1].path.out_size != path.in_size:
            raise ValueError(
                f"{layer.label}: {named(path.connection)} takes {path.in_size}, and the layer before it gives "
                f"{found[-1].path.out_size}"
            )
        found.append(layer)
    if not found:
        raise TypeError(f"{name}: wanted {WANTED}; got nothing")
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
