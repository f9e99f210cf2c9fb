"""A layer that stays silent in training, and through which next to no gradient passes, is said once."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..tools.user_warning import warn_user
from ..torch_private import backward_pass, inside_transform, stands_for_many
from .fields import name_of, show
from .signature import signature

#: A layer is said if it was stuck in so many backward passes, and looked at in so many calls at most.
CALLS, LOOKS = 10, 20
#: The gradient has vanished if a change of the input by all its size moves the output, as the surrogate sees it, by
#: less than this share of a spike. It depends on no unit: |input| |gradient by it| / |gradient by the output|.
VANISHED = 1e-3
#: What a backward pass has shown: the layer works, it is stuck, or no gradient came in, so that nothing is known.
WORKS, STUCK, UNKNOWN = 0.0, 1.0, 2.0


class SilenceWarning(UserWarning):
    """A layer sends no spikes and passes next to no gradient back, so that what is before it does not learn."""


class Evidence:
    """Whether a layer has spiked in some steps, and what came through it in their backward pass."""

    def __init__(self) -> None:
        self.spiked: Tensor | None = None
        self.size: Any = 0.0  # the largest input
        self.total: Any = 0.0  # of the gradients by the output, and the largest of them
        self.largest: Any = 0.0
        self.passed: Tensor | None = None  # the same total by the input; None before a backward pass
        self.many = False

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take input and output of some steps. It adds hooks to both and keeps neither."""
        spiked, size = y.detach().any(), x.detach().abs().amax().float()
        self.spiked = spiked if self.spiked is None else self.spiked | spiked
        self.size = size.clamp(min=self.size)
        tiny = torch.finfo(x.dtype).tiny

        def out(grad: Tensor | None) -> None:
            if grad is not None and not self._is_many(grad):
                self.total = self.total + _total(grad)
                # A gradient near the smallest number may have been rounded to zero on its way to the input.
                self.largest = (grad.detach().abs().amax() * VANISHED / tiny).clamp(min=self.largest)

        def into(grad: Tensor | None) -> None:
            if grad is not None and not self._is_many(grad):
                self.passed = _total(grad) + (0.0 if self.passed is None else self.passed)

        y.register_hook(out)
        x.register_hook(into)

    def _is_many(self, grad: Tensor) -> bool:
        """Whether gradients stand for many each, which know few operations."""
        self.many |= stands_for_many((grad,))
        return self.many

    def verdict(self) -> Tensor | None:
        """`WORKS`, `STUCK` or `UNKNOWN`, on the device; None before a backward pass, or if it was one of many."""
        if self.passed is None or self.many or not isinstance(self.largest, Tensor):
            return None
        assert self.spiked is not None
        # An input of zero has no size.
        known = (self.largest > 1) & ((self.size > 0) | (self.passed == 0))
        stuck = ~self.spiked & (self.size * self.passed <= VANISHED * self.total)
        return torch.where(known, torch.where(stuck, STUCK, WORKS), UNKNOWN).float()


def _total(grad: Tensor) -> Tensor:
    """The sum of its absolute values, which does not depend on when in time they came."""
    return grad.detach().abs().sum(dtype=torch.promote_types(grad.dtype, torch.float32))


class _Look:
    """What has been seen of one layer: in how many calls, and what each of their backward passes has shown."""

    def __init__(self) -> None:
        self.calls = 0
        self.seen: list[Evidence] = []


class _Sequences:
    """What has been seen of a layer that is called step by step."""

    def __init__(self) -> None:
        self.number = 0
        self.spiked: Tensor | None = None
        self.evidence: Evidence | None = None
        self.potential: Tensor | None = None


#: None: nothing more to see; the layer works, or it has been said, or its output is no spikes.
_looks: weakref.WeakKeyDictionary[nn.Module, _Look | None] = weakref.WeakKeyDictionary()
_steps: weakref.WeakKeyDictionary[nn.Module, _Sequences | None] = weakref.WeakKeyDictionary()
_UNSEEN, _NEW = _Look(), _Sequences()
_nets: list[nn.Module] = []  # that unroll runs, the innermost last


@contextlib.contextmanager
def names_in(net: nn.Module) -> Iterator[None]:
    """Inside, layers that are called step by step are named as those of `net`."""
    _nets.append(net)
    try:
        yield
    finally:
        _nets.pop()


def is_settled(layer: nn.Module) -> bool:
    """Whether there is nothing more to see of a spiking layer."""
    return _steps.get(layer, _NEW) is None


def settle_layer(layer: nn.Module) -> None:
    """Look no more at the steps of a layer: it works, it has been said, or `look` has it."""
    _steps[layer] = None


def say(net: nn.Module | None, layer: nn.Module, when: str, potential: Tensor | None = None) -> None:
    """Warn of a layer, once."""
    if not is_settled(layer):
        settle_layer(layer)
        warn_user(_message(net, layer, when, potential), SilenceWarning)


def look(net: nn.Module, layer: nn.Module, xs: Any, ys: Any) -> None:
    """Look at the input and output of a layer that has run over time: in the first calls of training, then no more.

    It adds hooks to the two tensors and keeps neither; nothing of it is in the step. What the backward pass has shown
    is read at the next call, so that no device waits.

    Args:
        net: names the layer.
        layer: a layer, or several that run together, of which the last one is meant.
        xs, ys: with time in front.
    """
    found = _looks.get(layer, _UNSEEN)
    if found is None:
        return
    last = last_of(layer)
    if found is _UNSEEN:
        found = _looks[layer] = _Look() if getattr(last, "emits_spikes", False) is True else None
    if found is None or not last.training:
        return
    xs = xs[0] if isinstance(xs, tuple) and len(xs) == 1 else xs
    if not all(isinstance(x, Tensor) and x.grad_fn is not None and x.numel() for x in (xs, ys)):
        return  # nothing before the layer learns
    if ys.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    verdicts = [verdict for one in found.seen if (verdict := one.verdict()) is not None]
    seen = torch.stack(verdicts).tolist() if verdicts else []
    stuck = seen.count(STUCK)
    if WORKS in seen or stuck >= CALLS or found.calls >= LOOKS:
        _looks[layer] = None
        if WORKS not in seen and stuck >= CALLS:
            warn_user(_message(net, last, f"the first {CALLS} training calls", None), SilenceWarning)
        return
    found.calls += 1
    found.seen.append(Evidence())
    found.seen[-1].add(xs, ys)


def last_of(layer: nn.Module) -> nn.Module:
    """The last of some layers that run together."""
    return layer[-1] if isinstance(layer, nn.Sequential) and len(layer) else layer


def is_looked_at(layer: Any, x: Any) -> bool:
    """Whether a step of `layer`, which is about to take the input `x`, is one to look at with `look_at_step`."""
    return (
        layer.emits_spikes
        and layer.training
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and _steps.get(layer, _NEW) is not None
        and type(x) is Tensor  # no fake one
        and x.grad_fn is not None
        and x.numel() > 0
        and backward_pass() == -1  # in which a step is computed again
        and inside_transform() is False
    )


def look_at_step(layer: Any, x: Tensor, y: Any, begins: bool) -> None:
    """Look at a step in a loop: for spikes in the first sequences, and if there were none, at gradients in the last.

    Args:
        begins: whether it is the first step of a graph, and so of a sequence or of a part of one.
    """
    if type(y) is not Tensor or (y.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    found = _steps.get(layer)
    if found is None:
        found = _steps[layer] = _Sequences()
    if begins and _is_over(layer, found):
        return
    if found.evidence is not None and y.grad_fn is not None:
        found.evidence.add(x, y)
        V = layer._buffers.get("V")
        found.potential = None if V is None else V.detach().amax()
    elif not y.is_cpu:
        spiked = y.detach().any()
        found.spiked = spiked if found.spiked is None else found.spiked | spiked
    elif bool(y.detach().any()):
        settle_layer(layer)


def _is_over(layer: nn.Module, found: _Sequences) -> bool:
    """Whether a layer needs no more looks when its next sequence begins."""
    verdict = None if found.evidence is None else found.evidence.verdict()
    result = UNKNOWN if verdict is None else verdict.item()
    found.number += 1
    if result == STUCK:
        say(_nets[-1] if _nets else None, layer, f"the first {found.number - 1} training sequences", found.potential)
    elif result == WORKS or found.number > LOOKS or (found.spiked is not None and bool(found.spiked)):
        settle_layer(layer)
    found.evidence = Evidence() if found.number >= CALLS else None
    return is_settled(layer)


def _message(net: nn.Module | None, last: nn.Module, when: str, highest: Tensor | None) -> str:
    neuron: Any = getattr(last, "cell", last)
    modules = () if net is None else net.named_modules()
    path = next((path for path, module in modules if module is neuron), "")
    name, potential = name_of(neuron, path), ""
    if highest is None and (V := neuron._buffers.get("V")) is not None:
        highest = V.detach().amax()
    if highest is not None:
        unit = neuron.state_unit("V")
        threshold = f" and its threshold {show(neuron.V_th.detach(), unit)}" if "V_th" in neuron.params else ""
        potential = f" Its potential at the end of this call is at most {show(highest, unit)}{threshold}."
    keywords = signature(type(neuron)).parameters
    ways = ["nd.scale_weights(net, xs, 20 * u.Hz)"]
    if "reset" in keywords:  # others make the upswing of a spike themselves
        ways.insert(0, "nd.init.fluctuation_driven_(net, xs)")
    if "R" in keywords:
        ways.append("a larger R=")
    slope = ""
    if "surrogate" in keywords and neuron.surrogate != keywords["surrogate"].default:
        slope = ", or use surrogate=nd.surrogate.DEFAULT, whose slope has long tails"
    if net is None:
        meant = "Here net is the network of one step that your loop calls, and xs are its inputs with time in front"
    else:
        meant = (
            f"Here net is the {type(net).__name__} that nd.unroll runs, of an nd.Unroll its module, and xs what it gets"
        )
    return (
        f"{name} sent no spike in {when} and passed next to no gradient back, so that nothing before it learns."
        f"{potential} Make its input larger, as with {' or '.join(ways)}{slope}. print(nd.explain(net, xs)) shows all "
        f"layers. {meant}"
    )
