"""The programs of this process: each is found again where everything that its trace has read is the same.

For a module that was seen before, a snapshot tells in some microseconds that nothing has changed. A new one shares the
programs of others with the same fingerprint, if the globals that the trace has read are as they were.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core.hooks import hooked
from ..core.states import (
    Slot,
    batched,
    check_initialized,
    constants,
    has_batch,
    held_states,
    named_dynamics,
    named_modules,
    places,
    same_tensors,
    settle,
)
from ..purity.fingerprint import Elastic, Unique, elastic_sizes, fingerprint
from ..purity.kinds import REMEMBERED
from ..purity.snapshot import Snapshot
from ..purity.watching import Watching
from ..tools.errors import NotCompilable
from ..tools.progress import compiling
from ..torch_private import TreeSpec, has_module_hooks, load_compiler, tree_flatten, tree_unflatten
from .compiled_chunk import COMPILING
from .program import Program
from .tracing import Layout, Signature, SizeSpecialised, trace_step, why_untraceable

_KEPT = 256
_LONGEST_WAIT = 1024  # calls
_ONE = tree_flatten((torch.empty(0),))[1]  # the arguments of most modules


class Ready(NamedTuple):
    """A program, and what it takes and changes of a module.

    Attributes:
        states: those that have values, and their `slots`.
        constants: all other parameters and buffers.
    """

    program: Program
    states: Sequence[Tensor]
    slots: Sequence[Slot]
    constants: Sequence[Tensor]

    def hand_over(self, states: Sequence[Tensor]) -> None:
        """Give the module its new states."""
        for (tensors, name), value in zip(self.slots, states, strict=True):
            tensors[name] = value


class Found(NamedTuple):
    """A program, or why there is none, and what the trace has read besides the module."""

    program: Program | str
    reads: Snapshot


class _Remembered:
    """On a module: what it looked like when programs were found for it, and these. A copy of a module has none.

    It lies on the module, and in no table, because it refers to all parts of it.

    Attributes:
        slots, constants: of the states, and all other tensors, which are its own for as long as nothing changes.
        settles: a layer inside derives something from values that may be edited.
    """

    def __init__(self, owner: weakref.ref[nn.Module] | None = None) -> None:
        self.owner = owner  # copy.copy takes what lies on a module along
        self.snapshot: Snapshot | None = None
        self.epoch = 0
        self.programs: dict[Hashable, Program | str] = {}
        self.slots: list[Slot] = []
        self.constants: list[Tensor] = []
        self.refusals, self.wait = 0, 0
        self.settles = False

    def look_at(self, net: nn.Module) -> Snapshot:
        """Remember what the module looks like now."""
        snapshot = Snapshot()
        self.snapshot, self.epoch = snapshot, _epoch
        snapshot.take("", net)
        return snapshot

    def successor(self) -> _Remembered:
        """For the module after a change."""
        found = _Remembered(self.owner)
        found.refusals = self.refusals
        return found

    def refuse(self) -> None:
        """A trace was refused: a module that changes at each call is traced again after ever more calls."""
        self.refusals += 1
        self.wait = min(2 ** (self.refusals - 1), _LONGEST_WAIT) - 1

    def __deepcopy__(self, memo: Any) -> _Remembered:
        return _Remembered()

    def __reduce__(self) -> Any:
        return _Remembered, ()


_shared: OrderedDict[Hashable, list[Found]] = OrderedDict()
_epoch = 0  # what was remembered before is forgotten


def program_for(net: nn.Module, xs: Sequence[Tensor], spec: TreeSpec) -> Ready:
    """The program for a module, whose states are set, and for inputs with time in front.

    It is traced at its first use. Layers are settled, as by `settle`.

    Raises:
        NotCompilable: with the reason.
    """
    last = _remembered(net)
    held = [tensors[name] for tensors, name in last.slots]
    states = [value for value in held if value is not None]
    gradients = torch.is_grad_enabled() and any([t.requires_grad for t in (*states, *last.constants, *xs)])
    key = _key(held, last.constants, xs, spec, gradients)
    if (program := last.programs.get(key)) is None:
        found = _found(net, states, [x[0] for x in xs], spec, gradients)
        (last.snapshot or last.look_at(net)).add(found.reads)
        program = last.programs[key] = found.program
        if isinstance(program, str):
            last.refuse()
        else:
            last.refusals = 0
    if isinstance(program, str):
        raise NotCompilable(program)
    if program.failure:
        raise NotCompilable(program.failure)
    slots = last.slots
    if len(states) < len(held):
        slots = [slot for slot, value in zip(slots, held, strict=True) if value is not None]
    return Ready(program, states, slots, last.constants)


def _remembered(net: nn.Module) -> _Remembered:
    """What is remembered of a module, where nothing has changed since; or a new one, which has no snapshot yet.

    Raises:
        NotCompilable: its step was refused before, and it is not to be traced again yet.
    """
    last: _Remembered | None = vars(net).get(REMEMBERED)
    if last is None or last.settles:
        settle(net)
    if last is None:
        check_initialized(net)
    elif last.snapshot is None or last.epoch != _epoch or last.owner is None or last.owner() is not net:
        last = None
    elif last.snapshot.change() is None:
        return last
    else:
        refusal = next(reversed(last.programs.values()), None)
        if last.wait and isinstance(refusal, str):
            last.wait -= 1
            raise NotCompilable(refusal)
    new = vars(net)[REMEMBERED] = _Remembered(weakref.ref(net)) if last is None else last.successor()
    new.slots = [(module._buffers, name) for _, module, name in places(net)]
    new.constants = list(constants(net).values())
    new.settles = any(hasattr(type(module), "settle") for _, module in named_modules(net))
    return new


def flattened(arguments: tuple[Any, ...]) -> tuple[list[Any], TreeSpec]:
    """`tree_flatten`, which takes longer, where the only argument is a tensor."""
    if len(arguments) == 1 and isinstance(arguments[0], Tensor):
        return list(arguments), _ONE
    return tree_flatten(arguments)


def last_path(net: nn.Module) -> str | None:
    """How `net` ran the last time that it was to run compiled, for people; None if it has not, or has changed since."""
    last = vars(net).get(REMEMBERED)
    if last is None or last.snapshot is None or not last.programs or last.owner() is not net:
        return None
    program = next(reversed(last.programs.values()))
    reason = program if isinstance(program, str) else program.failure
    if reason:  # also of a step that changes the module each time
        return f"step by step in Python, because {reason}"
    return None if last.snapshot.change() is not None else program.path()  # type: ignore[union-attr]


def change_of(net: nn.Module) -> str | None:
    """What has changed in a module since its program was looked for, for people; None if nothing has."""
    last: _Remembered | None = vars(net).get(REMEMBERED)
    return None if last is None or last.snapshot is None else last.snapshot.change()


def how_many() -> int:
    """How many programs there are that several modules can share."""
    return sum(map(len, _shared.values()))


def clear() -> None:
    """Forget all programs."""
    global _epoch
    _shared.clear()
    _epoch += 1


def _key(held: Any, fixed: Any, xs: Any, spec: TreeSpec, gradients: bool) -> Hashable:
    """What a program depends on besides what the module and its code hold; `held` has None for states without value."""
    of_states = tuple([s if s is None else (s.shape, s.dtype, s.device) for s in held])
    of_constants = tuple([(c.shape, c.dtype, c.device, c.requires_grad, len(c.__dict__)) for c in fixed])
    of_xs = tuple([(x.shape[1:], x.dtype, x.device, x.requires_grad) for x in xs])
    return of_states, of_constants, of_xs, None if spec is _ONE else spec, gradients, _surroundings(xs[0].device.type)


def _surroundings(device: str) -> Hashable:
    """What torch is set to, as far as a step can tell."""
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    return (
        has_module_hooks(),
        autocast,
        torch.get_default_dtype(),
        torch.empty(0).device,  # the default, in a third of the time of get_default_device
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
    )


def _found(net: nn.Module, states: Sequence[Tensor], x: Sequence[Tensor], spec: TreeSpec, gradients: bool) -> Found:
    if (name := hooked(net)) is not None:
        return Found(f"{name} has hooks, which have to be called at every step", Snapshot())
    if torch.is_anomaly_enabled():
        return Found("torch.autograd.set_detect_anomaly is to see every operation", Snapshot())
    batch, elastic = _common_batch(net, x), elastic_sizes(net)
    found = Found("", Snapshot())
    for sizes, free in ((elastic, batch), ({}, batch), ({}, ())):
        found = _lookup(net, states, x, spec, gradients, free, sizes)
        if found.program != _SPECIALISED:
            return found
    return Found("the shape of its output depends on values", Snapshot())


_SPECIALISED = "holds for one batch size only"


def _lookup(
    net: nn.Module, states: Any, x: Any, spec: TreeSpec, gradients: bool, free: tuple[int, ...], elastic: Elastic
) -> Found:
    lead = [*[free if led else () for led in batched(net)], *[free] * len(x)]  # of each, where it may have the batch
    tensors = [(*_free_shape(t, n), t.dtype, t.device) for t, n in zip((*states, *x), lead, strict=True)]
    wanted = gradients and tuple([value.requires_grad for value in x])
    try:
        if any(vars(c) for c in constants(net).values()):  # attributes that a step may read
            raise Unique
        key = (
            fingerprint(net, elastic),
            spec,
            len(free),
            gradients,
            wanted,
            tuple(tensors),
            _surroundings(x[0].device.type),
        )
    except Unique:
        key = None
    with COMPILING:
        candidates = _shared.setdefault(key, []) if key is not None else []
        for found in candidates:
            if found.reads.change() is None:
                _shared.move_to_end(key)
                return found
        with compiling():
            found = _traced(net, states, x, spec, gradients, free, elastic)
        candidates.append(found)
        while len(_shared) > _KEPT:
            _shared.popitem(last=False)
    return found


def _free_shape(tensor: Tensor, free: tuple[int, ...]) -> tuple[bool, tuple[int, ...]]:
    n = len(free)
    led = tuple(tensor.shape[:n]) == free
    return led, tuple(tensor.shape[n if led else 0 :])


def _traced(
    net: nn.Module, states: Any, x: Any, spec: TreeSpec, gradients: bool, free: tuple[int, ...], elastic: Elastic
) -> Found:
    state_names, fixed = list(held_states(net)), constants(net)
    fixed_layouts = [Layout.of(value) for value in fixed.values()]
    for i, name in enumerate(fixed):
        if name in elastic:  # a free size after those of the batch
            shape = (-1 - len(free) - elastic[name][0], *fixed_layouts[i].shape[1:])
            fixed_layouts[i] = fixed_layouts[i]._replace(shape=shape)
    signature = Signature(
        tuple([Layout.of(v, free if led else ()) for v, led in zip(states, batched(net), strict=True)]),
        tuple(fixed_layouts),
        tuple([Layout.of(value, free) for value in x]),
        (*free, *dict(elastic.values()).values()),
        tuple([i for i, value in enumerate(fixed.values()) if value.requires_grad]) if gradients else None,
        tuple([i for i, value in enumerate(x) if value.requires_grad]) if gradients else (),
    )

    unset = [module for _, module in named_dynamics(net) if not module.is_set]

    def step(states: Sequence[Tensor], constant: Sequence[Tensor], xs: Sequence[Tensor]) -> tuple[Any, list[Tensor]]:
        given = dict(zip(state_names, states, strict=True)) | dict(zip(fixed, constant, strict=True))
        left = dict(given)
        with same_tensors(net):
            y = functional_call(net, left, tree_unflatten(list(xs), spec))
            if any(module.is_set for module in unset):
                raise NotCompilable("a layer is called that had no state before; call nd.reset_states first")
        if assigned := [name for name in fixed if left[name] is not given[name]]:
            raise NotCompilable(f"its step assigns {assigned[0]}, a parameter or buffer that is no declared state")
        return y, [left[name] for name in state_names]

    names = [*state_names, *fixed, *(f"input {i}" for i in range(len(x)))]
    reads = Snapshot()
    try:
        load_compiler()  # what torch imports is not what the step does
        watching = Watching(net)
        reads = watching.reads
        with _tracing(), torch.inference_mode(False):
            traced = trace_step(step, signature, names, watching)
        return Found(Program(traced), reads)
    except SizeSpecialised:
        return Found(_SPECIALISED, reads)
    except NotCompilable as reason:
        return Found(str(reason), reads)
    except Exception as error:
        return Found(why_untraceable(error), reads)


_thread = threading.local()


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    _thread.tracing = True
    try:
        yield
    finally:
        _thread.tracing = False


def is_tracing() -> bool:
    """Whether this thread traces the step of a module."""
    return getattr(_thread, "tracing", False)


def _common_batch(net: nn.Module, x: Sequence[Tensor]) -> tuple[int, ...]:
    """The batch shape of all layers, if they agree; without layers that of the first input, if it has one."""
    found = {m.batch for _, m in named_dynamics(net) if m.is_set and has_batch(m)}
    if not found:
        return tuple(x[0].shape[:1]) if x[0].dim() > 1 else ()
    return found.pop() if len(found) == 1 else ()
