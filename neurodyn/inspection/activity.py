"""How much the layers of a network spike: statistics while it trains, and weights scaled for a target rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import units as u
from ..connections import Sparse
from ..core.fields import check
from ..core.states import check_dt
from ..loop import unroll
from ..neurons.base import Firing
from ..record import Recording
from .whole import check_steps


class SpikeStatistics:
    """Rates and silent neurons of every spiking layer, over all that was added since the last `reset`.

    Compiled layers call no hooks, so `unroll` records what the layers send: pass ``record=statistics.layers`` and
    `add` the recording. An `Unroll` inside another network gives its whole output to a forward hook:
    ``net[1].register_forward_hook(lambda module, args, ys: statistics.add({"1.module": ys}))``.

    Args:
        net: the network.

    Attributes:
        layers: names of the spiking layers.
        counts: by layer the number of spikes of each neuron.

    Example:
        >>> net = torch.nn.Sequential(nd.LIF(3, R=torch.tensor([0.5, 2.0, 4.0]) * u.Gohm), torch.nn.Linear(3, 2))
        >>> statistics = nd.SpikeStatistics(net)
        >>> ys, recording = nd.unroll(net, torch.ones(100, 8, 3), record=statistics.layers, compile=False)
        >>> statistics.add(recording)
        >>> statistics
        layer  model  neurons  mean rate  highest  silent
        0      LIF          3     300 Hz   640 Hz  33.3 %
    """

    def __init__(self, net: nn.Module):
        self._models = {name: module for name, module in net.named_modules() if isinstance(module, Firing)}
        if not self._models:
            raise ValueError(f"SpikeStatistics: {type(net).__name__} has no spiking layer")
        self.layers, self.dt = tuple(self._models), check_dt(net)
        self.reset()

    def reset(self) -> None:
        """Begin again, as at the start of an epoch."""
        self.counts = {name: torch.zeros(model.size, dtype=torch.float64) for name, model in self._models.items()}
        self._steps = dict.fromkeys(self._models, 0)

    @torch.no_grad()
    def add(self, spikes: Recording | dict[str, Tensor]) -> None:
        """Count the spikes ``(T, *batch, *size)`` of the layers that are in `spikes`, by name."""
        for name in self.layers:
            if name in spikes:
                found = spikes[name]
                values = found if isinstance(found, Tensor) else found.values
                size = self.counts[name].shape
                if values.shape[values.dim() - len(size) :] != size:
                    raise ValueError(f"SpikeStatistics: {name} has size {tuple(size)}, got {tuple(values.shape)}")
                rows = values.reshape(-1, *size)
                self.counts[name] += rows.sum(0, dtype=torch.float64).cpu()
                self._steps[name] += len(rows)

    @property
    def rates(self) -> dict[str, u.Quantity]:
        """Mean rate of each neuron by layer, in Hz; NaN before anything was added."""
        seconds = {name: steps * self.dt * 1e-3 for name, steps in self._steps.items()}
        return {name: u.quantity(counts / (seconds[name] or torch.nan), "Hz") for name, counts in self.counts.items()}

    @property
    def silent(self) -> dict[str, Tensor]:
        """By layer, which neurons never spiked."""
        return {name: counts == 0 for name, counts in self.counts.items()}

    def __repr__(self) -> str:
        rows = [("layer", "model", "neurons", "mean rate", "highest", "silent")]
        for name, rates in self.rates.items():
            values, silent = rates.magnitude, self.silent[name].double().mean().item()
            numbers = f"{values.mean():.3g} Hz", f"{values.max():.3g} Hz", f"{silent:.1%}".replace("%", " %")
            rows.append((name, type(self._models[name]).__name__, str(values.numel()), *numbers))
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        justify = (str.ljust, str.ljust, str.rjust, str.rjust, str.rjust, str.rjust)
        return "\n".join(
            "  ".join(side(cell, n) for side, cell, n in zip(justify, row, widths, strict=True)).rstrip()
            for row in rows
        )


@torch.no_grad()
def scale_weights(
    net: nn.Module, xs: Any, rate: Any, *, tolerance: float = 0.05, compile: bool = True
) -> dict[str, float]:
    """Multiply the weights in front of each spiking layer by a factor, so that its mean rate on `xs` is `rate`.

    Layer by layer, from the input on, it looks for the factor by bisection. The weights are those of the last module
    with a weight matrix that comes before the layer in ``net.named_modules()``.

    Args:
        net: a network for `unroll`.
        xs: typical inputs, ``(T, *batch, ...)``.
        rate: the wanted mean rate of every layer, a quantity.
        tolerance: largest relative difference that is left.
        compile: see `unroll`.

    Returns:
        The factors, by name of the module with the weights.

    Raises:
        ValueError: a layer without weights before it, or whose rate no factor from 1/1000 to 1000 brings about; a
            network that runs over time itself.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = torch.nn.Sequential(torch.nn.Linear(20, 50), nd.LIF(50))
        >>> factors = nd.scale_weights(net, torch.randn(200, 20), 20 * u.Hz, compile=False)
        >>> rate = 1000 * nd.unroll(net, torch.randn(200, 20), compile=False).mean()
        >>> f"{rate:.0f} Hz"
        '19 Hz'
    """
    wanted = 1000 * float(check(rate, u.canonical_unit("Hz"), (), "scale_weights: rate", None, torch.float64))
    statistics, factors = SpikeStatistics(net), {}
    check_steps(net, xs, "scale_weights")

    def measured(layer: str) -> float:
        statistics.reset()
        statistics.add(unroll(net, xs, record=statistics.layers, compile=compile)[1])
        return statistics.rates[layer].magnitude.mean().item()

    for layer, source in sources(net, statistics.layers, "scale_weights").items():
        weight: Any = net.get_submodule(source).weight
        original, low, high, factor = weight.clone(), 1e-3, 1e3, 1.0
        while abs((found := measured(layer)) / wanted - 1) > tolerance:
            if high / low < 1.001:
                weight.copy_(original)
                raise ValueError(
                    f"scale_weights: no factor of the weights of {source!r} gives {layer!r} a rate of {wanted:g} Hz; "
                    f"with {factor:.3g} it is {found:.3g} Hz"
                )
            low, high = (factor, high) if found < wanted else (low, factor)
            factor = (low * high) ** 0.5
            weight.copy_(original * factor)
        factors[source] = factor
    return factors


def has_weights(module: nn.Module) -> bool:
    """Whether a module has a weight for each pair of a source and a target, as a matrix or in sparse form."""
    return isinstance(module, Sparse) or getattr(getattr(module, "weight", None), "dim", int)() > 1


def sources(net: nn.Module, layers: tuple[str, ...], caller: str) -> dict[str, str]:
    """For each spiking layer the last module before it that has a weight matrix; `caller` names it in errors."""
    found, last = {}, None
    for name, module in net.named_modules():
        if has_weights(module):
            last = name
        if name in layers:
            if last is None or last in found.values():
                raise ValueError(f"{caller}: {name!r} has no weights of its own before it")
            found[name] = last
    return found
