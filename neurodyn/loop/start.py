"""Initial states for a module that is about to run: each layer is reset for the batch of its own input."""

from __future__ import annotations

import contextlib
import copy
import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.parameter import UninitializedBuffer, is_lazy

from ..core.current import SynapticOutput
from ..core.dynamics import Dynamics, UnsetState, exporting
from ..core.states import check_initialized, has_batch, held_states, named_dynamics, same_tensors, uninitialized
from ..purity.overwritten import Overwritten
from ..purity.snapshot import Snapshot
from ..purity.unchanged import take_globals, take_hooks
from ..purity.watching import Watching
from ..tools.errors import NotCompilable
from ..tools.generators import generator_states, restore_generators
from ..torch_private import tree_leaves, tree_map

Batches = dict[str, tuple[int, ...]]
#: For each composite module and shape of its input, the batch shape of every layer inside.
_seen: weakref.WeakKeyDictionary[nn.Module, dict[Any, Batches]] = weakref.WeakKeyDictionary()
#: What a step raises that reads a state before it is set.
_UNSET = UnsetState, AttributeError, TypeError


class _Shaped(NamedTuple):
    """What `Dynamics.batch_of` asks of an input, without a step of the graph for it."""

    shape: tuple[int, ...]


def reset_for(net: nn.Module, xs: tuple[Any, ...]) -> None:
    """Reset the states of `net` for the batch of its inputs, which have time in front.

    A layer, or a row of layers, has the batch of its input. Inside any other module the layers may see inputs of other
    shapes, so one step is tried; what it changes is put back.

    Raises:
        NotCompilable: the step has effects that could not be put back.
    """
    if isinstance(net, Dynamics) and not net._modules:
        net.reset_state(*_batch_of(net, xs))
        return
    batches = _batches(net, xs)
    if batches is None:
        batches = _tried(net, xs)
        remember(net, xs, batches)
    _reset(net, batches)


def first_step(net: nn.Module, xs: tuple[Any, ...]) -> Any:
    """The first step of a plain loop, which resets the states of `net` on its way."""
    x = tree_map(lambda value: value[0], xs)
    if (batches := _batches(net, xs)) is not None:
        _reset(net, batches)
        return net(*x)
    raised: list[Exception] = []
    before, generators = _reachable(net), generator_states()
    tensors = (*tree_leaves(x), *net.buffers(), *before.tensors().values())
    overwritten = Overwritten()

    def note() -> None:
        overwritten.note(tensor for tensor in tensors if not is_lazy(tensor))

    def put_back() -> None:
        before.restore()
        overwritten.undo()
        restore_generators(generators)
        note()  # for the next way

    note()
    for k, way in enumerate(_ways(net, x)):
        if uninitialized(net) and (error := _fails(net, x, k, put_back)):
            raised.append(error)
            continue
        way()
        try:
            y = net(*x)
        except (*_UNSET, ValueError, RuntimeError) as error:  # half a step, which must leave nothing behind
            raised.append(error)
            put_back()
        else:
            batches = _set_batches(net)
            _reset(net, batches, unless_set=True)  # those that this step has not called
            remember(net, xs, batches)
            return y
    raise _telling(raised)


def _fails(net: nn.Module, x: tuple[Any, ...], k: int, put_back: Callable[[], None]) -> Exception | None:
    """What the first step raises in a copy of `net` that is started in the k-th way.

    In `net` half a step would make the parameters of some lazy layers, which cannot be undone.
    """
    lazy = [buffer for buffer in net.buffers() if is_lazy(buffer)]
    try:  # torch copies lazy parameters, and no lazy buffers
        made = {id(b): UninitializedBuffer(device=b.device, dtype=b.dtype) for b in lazy}  # type: ignore[call-arg]
        other = copy.deepcopy(net, made)  # type: ignore[arg-type]
    except Exception:  # of something inside that cannot be copied
        return None
    list(_ways(other, x))[k]()
    try:
        other(*x)
    except (*_UNSET, ValueError, RuntimeError) as error:
        return error
    finally:
        put_back()
    return None


def _reset(net: nn.Module, batches: Batches, unless_set: bool = False) -> None:
    """Reset the layers; one whose batch no step has shown resets itself when it is called."""
    for name, module in named_dynamics(net):
        if unless_set and module.is_set:
            continue
        if name in batches:
            module.reset_state(*batches[name])
        else:
            module.unset_state()


def _reachable(net: nn.Module) -> Snapshot:
    """What a module and its hooks hold, and what their functions read of global variables, as it is now."""
    found = Snapshot(effects=True)
    with contextlib.suppress(NotCompilable):  # there is more than a snapshot takes
        found.take("", net)
        take_hooks(found, net)
        take_globals(found)
    return found


def remember(net: nn.Module, xs: tuple[Any, ...], batches: Batches) -> None:
    """Note the batches that the layers of `net` have for such inputs.

    Where a layer has not been called, the next call may call it, and one step has to be tried again.
    """
    if len(batches) == len(named_dynamics(net)):
        _seen.setdefault(net, {})[_shapes(xs)] = batches


def _is_plain(layer: nn.Module) -> bool:
    """Whether the shape of an input alone says its batch, and that of the output."""
    return isinstance(layer, SynapticOutput) or getattr(type(layer), "batch_of", None) is Dynamics.batch_of


def _one_after_another(row: nn.Module, xs: tuple[Any, ...]) -> Batches:
    """The batch of each layer of a row whose first takes any shape, so that its batch is not that of the others."""
    shape, found = tuple(xs[0].shape[1:]), {}
    for key, layer in row.named_children():
        batch = layer.batch_of(_Shaped(shape)) if isinstance(layer, Dynamics) else shape
        found |= {f"{key}.{name}".rstrip("."): tuple(batch) for name, _ in named_dynamics(layer)}
        shape = (*batch, *layer.size) if isinstance(layer, Dynamics) else shape
    return found


def _shapes(xs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([leaf.shape[1:] for leaf in tree_leaves(xs)])


def _batch_of(layer: Dynamics, xs: tuple[Any, ...]) -> tuple[int, ...]:
    """The batch of a layer whose input has time in front."""
    plain = type(layer).batch_of is Dynamics.batch_of
    return layer.batch_of(_Shaped(xs[0].shape[1:]) if plain else xs[0][0])


def _batches(net: nn.Module, xs: tuple[Any, ...]) -> Batches | None:
    """The batch of each layer, where no step has to be tried."""
    first, found = net[0] if isinstance(net, nn.Sequential) and len(net) else net, named_dynamics(net)
    if isinstance(first, Dynamics):
        if first is not net and not first.input_size and all(map(_is_plain, net.children())):
            return _one_after_another(net, xs)
        batch = tuple(_batch_of(first, xs))
        return {name: batch for name, _ in found}
    if not found:
        return {}
    if exporting():
        return _as_at_hand(found, tuple(tree_leaves(xs)[0].shape[1:]))
    return _seen.get(net, {}).get(_shapes(xs))


def _as_at_hand(layers: list[tuple[str, Dynamics]], shape: tuple[int, ...]) -> Batches:
    """The batch of each layer in an export, where no step can be tried: of the rank that it has now.

    To a layer without a size all dimensions are batch: those behind the batch of the others, or else behind the first,
    are features of its own input, and stay.
    """
    if unset := [module for _, module in layers if not module.is_set]:
        raise UnsetState(
            f"{unset[0]._label()} has no state yet, and an export cannot find its batch; before it call the module "
            "once, with nd.unroll or step by step, or nd.reset_states(net, *batch)"
        )
    sized = [len(module.batch) for _, module in layers if module.size]
    rank, found = min(sized, default=1), {}
    for name, module in layers:
        n = len(module.batch) if module.size else min(rank, len(module.batch))
        found[name] = (*shape[:n], *module.batch[n:])
    return found


def reset_as_at_hand(net: nn.Module, xs: tuple[Any, ...]) -> None:
    """Reset the states for the batch of inputs with time in front, in the ranks that they have now."""
    _reset(net, _as_at_hand(named_dynamics(net), tuple(tree_leaves(xs)[0].shape[1:])))


def _ways(net: nn.Module, x: tuple[Any, ...]) -> Iterator[Any]:
    """Ways to set the states before the first step, as calls.

    None at all: then each layer resets itself for its input. A recurrent loop reads a state before the layer has seen
    an input: every layer gets the batch of the input, all dimensions but the last, or as many as before, or fewer.
    """
    modules, shape = dict(named_dynamics(net)), tree_leaves(x)[0].shape
    ranks = {len(module.batch) for module in modules.values() if module.is_set}

    def unset() -> None:
        for module in modules.values():
            module.unset_state()

    def reset(rank: int) -> None:
        for module in modules.values():
            module.reset_state(*shape[:rank])

    resets = [
        functools.partial(reset, rank)
        for rank in dict.fromkeys([max(0, len(shape) - 1), *ranks, *range(len(shape) - 2, -1, -1)])
    ]
    yield from (unset, *resets)


def _tried(net: nn.Module, xs: tuple[Any, ...]) -> Batches:
    check_initialized(net)
    x = tree_map(lambda value: value[0].clone(), xs)  # a step may write to its input
    raised: list[Exception] = []
    for way in _ways(net, x):
        with same_tensors(net), torch.no_grad():
            way()
            buffers = {name: buffer.clone() for name, buffer in (*net.named_buffers(), *held_states(net).items())}
            try:
                with Watching(net, strict=False):
                    functional_call(net, buffers, x)
                for name, layer in named_dynamics(net):  # one without a size may have made its states wider
                    for state in layer.states:
                        layer._buffers[state] = buffers.get(f"{name}.{state}".lstrip("."), layer._buffers[state])
                return _set_batches(net)
            except (*_UNSET, ValueError) as error:
                raised.append(error)
            except RuntimeError as error:
                if type(error).__module__.startswith("neurodyn") and not isinstance(error, UnsetState):
                    raise
                raised.append(error)
    raise _telling(raised)


def _telling(raised: list[Exception]) -> Exception:
    """Of what the ways to start have raised, the first error that is not of a state without a value, which is None."""
    return next((error for error in raised if not isinstance(error, _UNSET) or _is_users(error)), raised[-1])


def _is_users(error: Exception) -> bool:
    """Whether an error comes from something else than None or an unset state, such as a name that is misspelt."""
    return not isinstance(error, UnsetState) and "None" not in str(error)


def _set_batches(net: nn.Module) -> Batches:
    """The batch of each layer; one that the step has not called gets that of all others, if they agree."""
    found = {name: module.batch for name, module in named_dynamics(net) if module.is_set}
    with_batch = {name for name, m in named_dynamics(net) if has_batch(m)}
    if len(common := {batch for name, batch in found.items() if name in with_batch}) == 1:
        found |= {name: next(iter(common)) for name, module in named_dynamics(net) if name not in found}
    return found
