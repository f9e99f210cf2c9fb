"""Online training through time: traces of the inputs of each layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from ..networks.recurrent import Recurrent
from ..neurons.base import Leaky
from ..readouts.leaky import LeakyIntegrator, LeakySpike
from .learner import Learner
from .local import Key, Step, connected
from .maps import add_bias_grad, add_weight_grads_at


class OTTT(Learner):
    r"""OTTT: each weight sees the gradient within a step at its output, and a trace of its input.

    $\hat x_t = \lambda\,\hat x_{t-1} + x_t$ and
    $\frac{dL}{dW} \approx \sum_t \frac{\partial L_t}{\partial a_t} \otimes \hat x_t$ for each linear map $a_t = W x_t$.

    $\lambda = e^{-dt/\tau}$ is the leak of the neurons behind the map. For one layer of LIF neurons with a soft reset
    and ``reset_gradient="detached"``, any layers without states after it, this is the gradient of backpropagation
    through time; with several layers the time within the layers above is left out. The reset has no gradient in time,
    whatever ``reset_gradient``; the bias is the weight of an input of 1. Parameters of neurons get the gradient within
    each step.

    Cost: per step that of a forward and a backward pass of one step, and one trace for each input of a map.

    Takes: linear maps of any kind in feed-forward networks, with pooling and norms; for feedback connections, the same
    rule leaves out the paths through them and time.

    Args:
        net: see `Learner`.
        decay: $\lambda$ by the name of a linear map, for maps behind which other neurons stand than `IF`, `LIF`,
            `ALIF`, `AdLIF`, `LIFRef` and the readouts; or one number for all.
        compile: see `Learner`.

    Raises:
        ValueError: at the first step, neurons without one leak; name it by `decay`.

    Source: Xiao, Meng, Zhang, He and Lin (2022), Online training through time for spiking neural networks, NeurIPS 35.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 5), nd.LIF(5), torch.nn.Linear(5, 2))
        >>> learner = nd.online.OTTT(net)
        >>> for x in torch.rand(20, 4, 3):
        ...     learner.backward(learner(x).square().mean())
    """

    traced = False
    memory = ("inputs", "ones")

    def __init__(self, net: nn.Module, decay: float | dict[str, float] | None = None, *, compile: bool = True):
        super().__init__(net, compile=compile)
        given = decay if isinstance(decay, dict) else dict.fromkeys(self.maps.values(), decay)
        for name, value in given.items():
            if name not in self.maps.values():
                raise KeyError(f"OTTT: no linear map {name!r}; the network has {', '.join(self.maps.values())}")
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"OTTT: decay must be from 0 to 1, got {value} for {name}")
        self.decay = {name: value for name, value in given.items() if value is not None}
        self.behind: dict[int, list[str]] | None = None

    def forget(self) -> None:
        self.inputs: dict[int, Tensor] = {}
        self.ones: dict[int, Tensor] = {}

    def exact(self, k: int) -> bool:
        return False

    def _traced(self, step: Step) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """The traces of inputs after the step, and those of the 1 of the bias."""
        if self.behind is None:
            self.behind = _behind(step)
        inputs, ones = {}, {}
        for k, call in enumerate(step.calls):
            decay = self._decay(call.name, self.behind[k])
            inputs[k] = decay * self.inputs.get(k, 0.0) + call.x.detach()
            ones[k] = decay * self.ones.get(k, call.x.new_zeros(())) + 1
        return inputs, ones

    def advance(self, step: Step) -> None:
        self.inputs, self.ones = self._traced(step)

    def collect(self, step: Step, signals: list[Tensor | None], pulls: dict[Key, Tensor]) -> None:
        inputs, ones = self._traced(step)
        for k, (call, signal) in enumerate(zip(step.calls, signals, strict=True)):
            if signal is not None:
                add_weight_grads_at(call.map, inputs[k], signal)
                add_bias_grad(call.map, signal * ones[k])

    def _decay(self, map: str, behind: list[str]) -> float | Tensor:
        """The leak of what the map feeds."""
        if map in self.decay:
            return self.decay[map]
        fed = {state.rpartition(".")[0]: None for state in behind}
        modules = [self.net.get_submodule(path) for path in fed]
        modules = [module for module in modules if not isinstance(module, Recurrent)]  # which has its cell's output
        if not modules:
            return 0.0
        module = modules[0]
        assert isinstance(module, Dynamics)
        reason = "OTTT is for leaky neurons with one time constant"
        if len(modules) == 1 and isinstance(module, (Leaky, LeakySpike, LeakyIntegrator)):
            if (tau := self.one_value(module.tau.detach())) is not None:
                return torch.exp(-module.dt / tau)
            low, high = module.tau.detach().aminmax()
            reason = f"its tau differs from neuron to neuron, from {low:g} to {high:g} ms"
        what = " and ".join(module._label() for module in modules)  # type: ignore[operator]
        raise ValueError(
            f"OTTT: {map} feeds {what}, and {reason}; give the decay of its trace, "
            f"OTTT(net, decay={{{map!r}: 0.9}}), or use nd.online.ESDRTRL"
        )


def _behind(step: Step) -> dict[int, list[str]]:
    """For each call of a map the states that it acts on directly; none for one after all states."""
    found: dict[int, list[str]] = {k: [] for k in range(len(step.calls))}
    for name, value in step.states.items():
        for _, k in connected([value], [("map", k) for k in found], step):
            found[k].append(name)
    return found
