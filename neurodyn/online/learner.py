"""`Learner`: a network that learns from each step, without a graph that grows with time."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..dynamics import Dynamics
from ..states import check_dt, detach_states, held_states, named_dynamics, reset_states, set_states
from .local import Key, Step, run
from .maps import add_grad, is_dense, named_maps, split
from .plan import Plan, check_within_step, make_plan


class Learner:
    r"""Base of the online rules: what they share, and the gradient within a step.

    With $h_t$ the states after step t and $\theta$ the parameters, the gradient of the loss of a step is

    $\frac{dL_t}{d\theta} = \frac{\partial L_t}{\partial\theta} + \frac{\partial L_t}{\partial h_{t-1}}\,
    \varepsilon_{t-1}$ with $\varepsilon_t = \frac{dh_t}{d\theta}$.

    The first term and $\partial L_t / \partial h_{t-1}$ are a backward pass through one step; the rules differ in the
    traces $\varepsilon$ that they keep. Call the learner in place of the network, once a step, and give it the loss of
    the step::

        learner = nd.online.DRTRL(net)
        for x, target in zip(xs, targets):
            y = learner(x)
            learner.backward(loss(y, target))  # adds to .grad
        optimizer.step()

    The optimizer may step as often as after each time step. A loss acts on what the network returns; to put one on a
    potential or on hidden spikes, return them too. A step without a loss needs no call of `backward`.

    Args:
        net: any module that `neurodyn.unroll` takes; its states stay in its buffers.

    Raises:
        ValueError: layers with different dt.
        NotImplementedError: at the first step, a network for which the rule has no traces; see each rule.
    """

    traced: ClassVar[bool] = True  # whether it has a plan of traces; False for rules that take any network
    dense: ClassVar[bool] = False  # whether it has one trace for each weight

    def __init__(self, net: nn.Module):
        check_dt(net)
        self.net = net
        self.maps = {module: name or type(module).__name__ for name, module in named_maps(net)}
        self.own = _own_parameters(net) if self.traced else {}
        inside = {id(p) for module in self.maps for p in module.parameters()} | {id(p) for _, p in self.own.values()}
        self.others = {name: p for name, p in net.named_parameters() if p.requires_grad and id(p) not in inside}
        for module, name in self.maps.items():
            if self.dense and not is_dense(module) and split(module)[0]:
                raise NotImplementedError(
                    f"{type(self).__name__}: {name} is a {type(module).__name__}, and a trace for each weight at each "
                    "place would be far larger than the layer; nd.online.ESDRTRL, OTTT and SLTT take convolutions"
                )
        self.plan: Plan | None = None
        self.step: Step | None = None
        self.checks, self.fresh = 2, False
        self.forget()

    def reset(self, *batch: int) -> None:
        """Start anew, as before a sequence: initial states for a batch of shape `batch`, and no traces."""
        reset_states(self.net, *batch)
        self.step, self.fresh = None, True
        self.forget()

    def restart(self) -> None:
        """Start anew; the batch is that of the next input."""
        for _, module in named_dynamics(self.net):
            module.unset_state()
        self.step = None
        self.forget()

    def __call__(self, *inputs: Any) -> Any:
        """One step of the network: what it returns, for `backward`."""
        if self.step is not None:
            with torch.no_grad():
                self.advance(self.step)
            self.step = None
        self._start(inputs)
        with torch.enable_grad():
            own = {name: _expanded(module, p) for name, (module, p) in self.own.items()}
            y, step = run(self.net, self.maps, held_states(self.net), own, inputs)
            if self.plan is None and self.traced:
                self.plan = make_plan(self.net, step, self.others, start_slopes(self.net, self.own))
                self.planned(step, self.plan)
            if self.plan is not None:
                if self.checks:  # at rest, in the first step, derivatives may be zero
                    self.plan.check(self.net, step)
                    self.checks -= 1
                self.plan.fill(step)
            elif self.checks:
                self.checks = 0
                check_within_step(self.net, step)
        if self.fresh and self.traced:
            self.begin(start_slopes(self.net, self.own))
        self.fresh = False
        set_states(self.net, {name: value.detach() for name, value in step.states.items()})
        self.step = step
        return y

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss of the last step to the ``.grad`` of all parameters.

        Raises:
            RuntimeError: before the first step, or a loss that does not depend on what the step returned.
        """
        step = self.step
        if step is None:
            raise RuntimeError(f"{type(self).__name__}.backward: no step has been made yet; call the learner first")
        given = [value for value in step.given if value.requires_grad]
        loss.backward(retain_graph=True)
        if not any(value.grad is not None for value in given):
            raise RuntimeError(
                f"{type(self).__name__}.backward: the loss does not depend on what the learner returned in its last "
                "step; call backward once for each step, with the loss of that step"
            )
        for output, value in zip(step.outputs, step.given, strict=True):
            if value.grad is not None:
                torch.autograd.backward(output, _taken(value), retain_graph=True)
        signals: list[Tensor | None] = [None] * len(step.calls)  # the gradient of the loss by each map's output
        for k in reversed(range(len(step.calls))):
            call = step.calls[k]
            if call.leaf.grad is None:
                continue
            signal = signals[k] = _taken(call.leaf)
            weights, bias = split(call.map)
            wanted = [*weights, *([] if bias is None else [bias])] if self.exact(k) else []
            passes = call.exit is not None and (self.plan is None or self.plan.kept[k])
            inputs = [*([call.x] if passes else []), *wanted]
            if not inputs:
                continue
            found = list(torch.autograd.grad(call.y, inputs, signal, retain_graph=True, allow_unused=True))
            if passes:
                back = self.feedback_of(k, step, signal, found.pop(0))
                if back is not None and call.exit is not None:
                    torch.autograd.backward(call.exit, back, retain_graph=True)
            for parameter, grad in zip(wanted, found, strict=True):
                add_grad(parameter, grad)
        pulls = {key: _taken(value) for key, value in step.leaves.items() if value.grad is not None}
        with torch.no_grad():
            self.collect(step, signals, pulls)
            for name, (_, parameter) in self.own.items():
                if ("own", name) in pulls:
                    add_grad(parameter, pulls["own", name].sum_to_size(parameter.shape))

    # What a rule defines.

    def forget(self) -> None:
        """Drop the traces."""

    def begin(self, slopes: dict[tuple[Key, Key], Tensor]) -> None:
        """Called in the first step after a reset, with the derivatives of initial states by parameters."""

    def planned(self, step: Step, plan: Plan) -> None:
        """Called once, at the first step, when the plan is made."""

    def advance(self, step: Step) -> None:
        """Bring the traces to the time after `step`."""

    def exact(self, k: int) -> bool:
        """Whether the gradient within a step of the k-th map's weights counts as it is."""
        return True

    def feedback_of(self, k: int, step: Step, signal: Tensor, back: Tensor | None) -> Tensor | None:
        """What the k-th map sends back to its input for the gradient `signal` at its output; `back` is exact."""
        return back

    def collect(self, step: Step, signals: list[Tensor | None], pulls: dict[Key, Tensor]) -> None:
        """Add what the traces give: `pulls` holds the gradients by states, each with its sum over paths of a step."""

    def _start(self, inputs: Any) -> None:
        """Set states that are not set, for the batch of the input of their layer."""
        unset = [module for _, module in named_dynamics(self.net) if not module.is_set]
        if not unset:
            return
        self.fresh = True
        with torch.no_grad():
            self.net(*inputs)
        for _, module in named_dynamics(self.net):
            if module.states and module.is_set:
                module.reset_state(*module.batch)
        detach_states(self.net)


def _taken(leaf: Tensor) -> Tensor:
    """The gradient of a leaf, which has none afterwards."""
    grad, leaf.grad = leaf.grad, None
    assert grad is not None
    return grad


def _own_parameters(net: nn.Module) -> dict[str, tuple[Dynamics, nn.Parameter]]:
    """Trained parameters that a neuron or synapse has by itself, one value for each neuron or for all."""
    found: dict[str, tuple[Dynamics, nn.Parameter]] = {}
    for path, module in named_dynamics(net):
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or any(parameter is other for _, other in found.values()):
                continue
            full = f"{path}.{name}" if path else name
            fits = zip(parameter.shape[::-1], module.size[::-1], strict=False)
            if name.removeprefix("raw_") in module.params and all(n in (1, m) for n, m in fits):
                found[full] = module, parameter
    return found


def start_slopes(net: nn.Module, own: dict[str, tuple[Dynamics, nn.Parameter]]) -> dict[tuple[Key, Key], Tensor]:
    """The derivatives of initial states by parameters, by the keys of both: 1 for a learned initial state."""
    found: dict[tuple[Key, Key], Tensor] = {}
    for path, module in named_dynamics(net):
        for full, (owner, parameter) in own.items():
            name = full.rpartition(".")[2]
            if owner is not module:
                continue
            for state, field in module.states.items():
                with torch.enable_grad():
                    leaf = _expanded(module, parameter)
                    module._parameters[name] = leaf  # type: ignore[assignment]
                    try:
                        value = getattr(module, field.initializer)
                    finally:
                        module._parameters[name] = parameter
                    if value.requires_grad and value.shape == leaf.shape:
                        (slope,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True)
                        if slope is not None:
                            found[("own", full), ("state", f"{path}.{state}".removeprefix("."))] = slope
    return found


def _expanded(module: Dynamics, parameter: Tensor) -> Tensor:
    """One value of a parameter for each sample and neuron, so that each has a derivative of its own."""
    shape = (*module.batch, *module.size)
    return parameter.detach().expand(shape).clone().requires_grad_()
