"""`Learner`: a network that learns from each step, without a graph that grows with time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..core.signature import Called
from ..core.states import check_dt, held_states, named_dynamics, reset_states, set_states
from .checks import check_followed, check_within_step
from .compiled import Compiled, CompiledStep
from .local import Key, Step, run
from .maps import add_grad, is_dense, named_maps, split
from .own import expanded, own_parameters, start_slopes, start_unset
from .plan import Plan, make_plan


class Learner(metaclass=Called):
    r"""Base of the online rules: what they share, and the gradient within a step.

    With $h_t$ the states after step t and $\theta$ the parameters, the gradient of the loss of a step is

    $\frac{dL_t}{d\theta} = \frac{\partial L_t}{\partial\theta} + \frac{\partial L_t}{\partial h_{t-1}}\,
    \varepsilon_{t-1}$ with $\varepsilon_t = \frac{dh_t}{d\theta}$.

    The first term and $\partial L_t / \partial h_{t-1}$ are a backward pass through one step; the rules differ in the
    traces $\varepsilon$ that they keep. Call the learner in place of the network, once a step, and give it the loss of
    the step:

        learner = nd.online.DRTRL(net)
        for x, target in zip(xs, targets):
            y = learner(x)
            learner.backward(loss(y, target))  # adds to .grad
        optimizer.step()

    The optimizer may step as often as after each time step. A loss acts on what the network returns; to put one on a
    potential or on hidden spikes, return them too. A step without a loss needs no call of `backward`.

    Where the step of `net` is a function of tensors, as for `neurodyn.unroll`, the third step compiles what a step and
    its backward pass do, and compares it with the plain step; later ones call it. Else an EagerWarning says why not.

    Args:
        net: any module that `neurodyn.unroll` takes; its states stay in its buffers.
        compile: False steps in Python.

    Raises:
        ValueError: layers with different dt.
        NotImplementedError: at the first step, a network for which the rule has no traces; see each rule.
    """

    traced: ClassVar[bool] = True  # whether it has a plan of traces; False for rules that take any network
    dense: ClassVar[bool] = False  # whether it has one trace for each weight
    memory: ClassVar[tuple[str, ...]] = ()  # the dicts of tensors that a step replaces, as attributes
    read: ClassVar[tuple[str, ...]] = ()  # those that it reads

    def __init__(self, net: nn.Module, *, compile: bool = True):
        check_followed(net, type(self).__name__, self.traced)
        check_dt(net)
        self.net = net
        self.maps = {module: name or type(module).__name__ for name, module in named_maps(net)}
        self.own = own_parameters(net) if self.traced else {}
        inside = {id(p) for module in self.maps for p in module.parameters()}
        inside |= {id(own.parameter) for own in self.own.values()}
        self.others = {name: p for name, p in net.named_parameters() if p.requires_grad and id(p) not in inside}
        for module, name in self.maps.items():
            if self.dense and not is_dense(module) and split(module)[0]:
                raise NotImplementedError(
                    f"{type(self).__name__}: {name} is a {type(module).__name__}, and a trace for each weight at each "
                    "place would be far larger than the layer; nd.online.ESDRTRL, OTTT and SLTT take convolutions"
                )
        self.plan: Plan | None = None
        self.step: Step | CompiledStep | None = None
        self.compiled = Compiled(self) if compile else None
        self.differences: list[Tensor] | None = None  # while a step is traced: what has to be zero
        self.checks, self.fresh = 2, False
        self.left: dict[str, Tensor] = {}  # the states after the last step
        self.order: list[nn.Module] | None = None
        self.forget()

    def reset(self, *batch: int) -> None:
        """Start anew, as before a sequence: initial states for a batch of shape `batch`, and no traces."""
        reset_states(self.net, *batch)
        self.step, self.fresh, self.left = None, True, {}
        self.forget()

    def restart(self) -> None:
        """Start anew; the batch is that of the next input."""
        for _, module in named_dynamics(self.net):
            module.unset_state()
        self.step, self.left = None, {}
        self.forget()

    def __call__(self, *inputs: Any) -> Any:
        """One step of the network: what it returns, for `backward`."""
        if self.step is not None:
            self._remember(self.step.memory)
            self.step = None
        if self.compiled is not None and not self.compiled.names:
            self.compiled.names = tuple(vars(self))
        if not self.left:
            self.fresh |= start_unset(self.net, inputs)
        before = held_states(self.net)
        if self.left and any(value is not self.left.get(name) for name, value in before.items()):
            raise RuntimeError(
                f"{type(self).__name__}: states of {type(self.net).__name__} have been set since the last step, and "
                "the traces are of the old ones; call learner.reset(*batch) to start a sequence, or learner.restart()"
            )
        step: Step | CompiledStep | None = None
        if self.compiled is not None and not self.fresh and not self.checks:
            step = self.compiled.step(before, inputs)
        if step is None:
            step = self.plain_step(before, inputs)
            self._check_order(step)
        self.fresh = False
        set_states(self.net, {name: value.detach() for name, value in step.states.items()})
        self.left = held_states(self.net)
        self.step = step
        return step.y

    def plain_step(self, states: Mapping[str, Tensor], inputs: tuple[Any, ...]) -> Step:
        """A step with its graph, from these states."""
        with torch.enable_grad():
            own = {name: expanded(parameter) for name, parameter in self.own.items()}
            step = run(self.net, self.maps, states, own, inputs)
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
                check_within_step(self.net, step, self.others)
        if self.fresh and self.traced:
            self.begin(start_slopes(self.net, self.own))
        held = [getattr(self, name) for name in self.memory]
        with torch.no_grad():
            self.advance(step)
        step.memory = [getattr(self, name) for name in self.memory]
        self._remember(held)
        return step

    def _remember(self, memory: Sequence[dict[Any, Tensor]]) -> None:
        """Set the dicts of the rule."""
        for name, values in zip(self.memory, memory, strict=True):
            setattr(self, name, values)

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
        if isinstance(step, Step):
            self.pull(step)
        elif self.compiled is not None:
            self.compiled.pull(step)

    def pull(self, step: Step) -> None:
        """Add the gradients by all parameters that follow from those by what `step` has given."""
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
            for name, own in self.own.items():
                if ("own", name) in pulls:
                    add_grad(own.parameter, pulls["own", name].sum_to_size(own.parameter.shape))

    def one_value(self, values: Tensor) -> Tensor | None:
        """The value that all elements have; None if they differ. Of a traced step, its caller sees whether they do."""
        low, high = values.aminmax()
        if self.differences is not None:
            self.differences.append(high - low)
            return low
        return low if low == high else None

    def _check_order(self, step: Step) -> None:
        """See that the maps are called as in the first step, since traces are by call."""
        called = [call.map for call in step.calls]
        self.order = called if self.order is None else self.order
        if called != self.order:
            now, before = (", ".join(self.maps[map] for map in row) for row in (called, self.order))
            raise RuntimeError(
                f"{type(self).__name__}: in this step {type(self.net).__name__} has called the linear maps "
                f"{now or '-'}, in the first {before or '-'}; traces need the same calls in each step"
            )

    # What a rule defines.

    def forget(self) -> None:
        """Drop the traces."""

    def begin(self, slopes: dict[tuple[Key, Key], Tensor]) -> None:
        """Called in the first step after a reset, with the derivatives of initial states by parameters."""

    def planned(self, step: Step, plan: Plan) -> None:
        """Called once, at the first step, when the plan is made."""

    def advance(self, step: Step) -> None:
        """Bring the traces to the time after `step`; the learner keeps those of before until the next step."""

    def exact(self, k: int) -> bool:
        """Whether the gradient within a step of the k-th map's weights counts as it is."""
        return True

    def feedback_of(self, k: int, step: Step, signal: Tensor, back: Tensor | None) -> Tensor | None:
        """What the k-th map sends back to its input for the gradient `signal` at its output; `back` is exact."""
        return back

    def collect(self, step: Step, signals: list[Tensor | None], pulls: dict[Key, Tensor]) -> None:
        """Add what the traces give: `pulls` holds the gradients by states, each with its sum over paths of a step."""


def _taken(leaf: Tensor) -> Tensor:
    """The gradient of a leaf, which has none afterwards."""
    grad, leaf.grad = leaf.grad, None
    assert grad is not None
    return grad
