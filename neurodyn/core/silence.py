"""A layer that stays silent in training, and through which next to no gradient passes, is said once."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from ..tools.user_warning import warn_user
from ..torch_private import stands_for_many
from .dynamics import Dynamics
from .fields import show
from .signature import signature

#: A layer is said if it was stuck in so many backward passes, and looked at in so many calls at most.
CALLS, LOOKS = 10, 20
#: The gradient has vanished if a change of the input by all its size moves the output, as the surrogate sees it, by
#: less than this share of a spike. It depends on no unit: |input| |gradient by it| / |gradient by the output|.
VANISHED = 1e-3
#: What a backward pass has shown: the layer works, it is stuck, or no gradient came in, so that nothing is known.
_WORKS, _STUCK, _UNKNOWN = 0.0, 1.0, 2.0


class SilenceWarning(UserWarning):
    """A layer sends no spikes and passes next to no gradient back, so that what is before it does not learn."""


class _Look:
    """What has been seen of one layer: in how many calls, and what each backward pass has shown."""

    def __init__(self) -> None:
        self.calls = 0
        self.seen: list[Tensor] = []


#: None: nothing more to see; the layer works, or it has been said, or its output is no spikes.
_looks: weakref.WeakKeyDictionary[nn.Module, _Look | None] = weakref.WeakKeyDictionary()
_UNSEEN = _Look()


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
    last = layer[-1] if isinstance(layer, nn.Sequential) else layer
    if found is _UNSEEN:
        found = _looks[layer] = _Look() if isinstance(last, Dynamics) and last.emits_spikes else None
    if found is None or not last.training:
        return
    xs = xs[0] if isinstance(xs, tuple) and len(xs) == 1 else xs
    if not all(isinstance(x, Tensor) and x.grad_fn is not None and x.numel() for x in (xs, ys)):
        return  # nothing before the layer learns
    if ys.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    seen = torch.stack(found.seen).tolist() if found.seen else []
    stuck = seen.count(_STUCK)
    if _WORKS in seen or stuck >= CALLS or found.calls >= LOOKS:
        _looks[layer] = None
        if _WORKS not in seen and stuck >= CALLS:
            warn_user(_message(net, last), SilenceWarning)
        return
    found.calls += 1
    _follow(found, xs, ys)


def _follow(found: _Look, xs: Tensor, ys: Tensor) -> None:
    """Note in the backward pass whether `ys` has no spike and its gradient does not come through to `xs`."""
    silent, size = ~ys.detach().any(), xs.detach().abs().amax().float()
    came: list[Tensor] = []

    def out(grad: Tensor | None) -> None:
        if grad is not None and not stands_for_many((grad,)):
            came[:] = [_total(grad), grad.detach().abs().amax()]

    def into(grad: Tensor | None) -> None:
        if came and grad is not None and not stands_for_many((grad,)):
            total, passed = came[0], _total(grad)
            # An input of zero has no size, and a gradient near the smallest number may have been rounded to zero.
            known = (came[1] > torch.finfo(grad.dtype).tiny / VANISHED) & ((size > 0) | (passed == 0))
            stuck = silent & (size * passed <= VANISHED * total)
            found.seen.append(torch.where(known, torch.where(stuck, _STUCK, _WORKS), _UNKNOWN).float())

    ys.register_hook(out)
    xs.register_hook(into)


def _total(grad: Tensor) -> Tensor:
    """The sum of its absolute values, which does not depend on when in time they came."""
    return grad.detach().abs().sum(dtype=torch.promote_types(grad.dtype, torch.float32))


def _message(net: nn.Module, last: nn.Module) -> str:
    neuron: Any = getattr(last, "cell", last)
    path = next((path for path, module in net.named_modules() if module is neuron), "")
    name, potential = f"{neuron._label()} {path!r}".replace(" ''", ""), ""
    if (V := neuron._buffers.get("V")) is not None:
        unit = neuron.state_unit("V")
        threshold = f" and its threshold {show(neuron.V_th.detach(), unit)}" if "V_th" in neuron.params else ""
        potential = f" Its potential at the end of this call is at most {show(V.detach().amax(), unit)}{threshold}."
    keywords = signature(type(neuron)).parameters
    ways = ["nd.scale_weights(net, xs, 20 * u.Hz)"]
    if "reset" in keywords:  # others make the upswing of a spike themselves
        ways.insert(0, "nd.init.fluctuation_driven_(net, xs)")
    if "R" in keywords:
        ways.append("a larger R=")
    slope = ""
    if "surrogate" in keywords and neuron.surrogate != keywords["surrogate"].default:
        slope = ", or use surrogate=nd.surrogate.DEFAULT, whose slope has long tails"
    return (
        f"{name} sent no spike in the first {CALLS} training calls and passed next to no gradient back, so that "
        f"nothing before it learns.{potential} Make its input larger, as with {' or '.join(ways)}{slope}. "
        f"print(nd.explain(net, xs)) shows all layers. Here net is the {type(net).__name__} that nd.unroll runs, of an "
        "nd.Unroll its module, and xs what it gets"
    )
