"""`unroll`: run a module over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn

from ..core.dynamics import exporting
from ..core.signature import nearest
from ..core.silence import look, names_in
from ..core.states import check_dt, detach_states, held_states, hold_states, named_dynamics, set_states
from ..engine.program_cache import is_tracing
from ..purity.watching import is_watching
from ..tools.errors import NotCompilable, warn_once
from ..tools.progress import Quiet
from ..tools.progress import bar as progress_bar
from ..torch_private import inside_transform, is_fake
from .checkpointed import can_repeat, in_blocks, rows
from .given import arguments_of, explain_layout
from .gradients import way_for
from .layers import layers
from .not_a_number import look_for_nan
from .records import Watch
from .rows import Mode, run_row
from .silent import look_inside, settle_last
from .written_out import written_out

#: Shorter sequences show no progress bar.
_LONG = 1000
_DDP = nn.parallel.DistributedDataParallel
_UNWATCHED = Watch(nn.Identity(), ())


def unroll(
    module: nn.Module,
    xs: Any,
    *,
    states: Mapping[str, Tensor] | None = None,
    return_states: bool = False,
    compile: bool = True,
    checkpoint: int | None = None,
    record: str | Iterable[str] = (),
    progress: bool = True,
    gradient: Literal["surrogate", "eventprop"] = "surrogate",
) -> Any:
    """Run `module` over the time steps of `xs`.

    Modules without states inside an ``nn.Sequential`` run once on all steps, flattened to ``(T * batch, ...)``; each
    run of `Dynamics` between them, and every recurrent or composite module, runs step by step in compiled chunks. The
    numbers are the same on every path. The final states stay in the module, detached. Inside ``torch.compile`` the
    loop is called as it is, between two graphs; inside ``torch.export`` it becomes a scan.

    Args:
        module: any module; its forward takes one step.
        xs: the inputs, time first: ``(T, *batch, ...)``, or a tuple of such tensors for several arguments. Sequences
            of different lengths are padded, see `last` and `step_mask`.
        states: where to start, as `get_states` gives them; by default from `reset_state`.
        return_states: return ``(ys, states)``, where the final states carry their graph, as for truncated
            backpropagation through time.
        compile: False runs eagerly, with derivatives of any order.
        checkpoint: keep for the backward pass only the states of every so many steps, and compute what lies between
            again, so that memory grows with input and output alone. Takes as long as one more forward pass. The first
            block of steps is kept: it shows whether a step changes anything but states. If one does, all is kept, and
            an EagerWarning says so. Without effect inside torch.compile and torch.func.
        record: names of states, such as "1.V", and of modules inside, such as "1", for their outputs. Then the result
            is ``(ys, recording)``: a `Trace` by name, with its graph, and the final states, with theirs.
        progress: show a bar when the forward pass of a long sequence takes more than 2 s, if tqdm is installed and the
            terminal is interactive.
        gradient: "surrogate" for that of the grid. "eventprop" runs the network that `spike_times` describes in
            continuous time, with the exact gradients of spike times. Step k of the input is the time k dt, of
            ``(T, *batch, *inputs)``; each output spike is divided between the two steps next to its time t, in
            proportion, so that the sum of k dt times the output is t. `losses.first_spike_times` is exact where no
            second spike of a neuron comes between the same two steps, and so are the gradients of both. An input of
            another size than 1 is so many spikes at once. States of the module are not used; no other option but
            `compile` and `progress`, which have no effect.

    Returns:
        What the module returns, each tensor with time in front.

    Warns:
        NaNWarning: a state has become NaN, once for a network; it names the layer, the state and the step. On the CPU.
        TimeStepWarning: with "eventprop", the second spike of a neuron comes in the same step as the first.

    Raises:
        ValueError: no time step, layers with different dt, a start state of the wrong shape.
        TypeError: DistributedDataParallel, which goes around the loop; packed or nested sequences.
        KeyError: a name in `record` that is neither a state nor a module.
        RuntimeError: fake tensors, or a call inside the step of another module, without ``compile=False``.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"unroll: the first argument is a {type(module).__name__}, wanted a torch.nn.Module whose forward takes "
            "one step, such as nd.LIF(10) or nn.Sequential(...); xs is the second argument"
        )
    if _DDP in type(module).__mro__:  # isinstance would ask its abstract base
        raise TypeError(
            "unroll: DistributedDataParallel acts once per sequence, so it goes around the loop; "
            "use nd.distributed.ddp(nd.Unroll(net)) and call that"
        )
    if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
        options = {"states": states, "return_states": return_states, "compile": compile, "checkpoint": checkpoint}
        options |= {"record": record, "progress": progress, "gradient": gradient}
        # Its own programs are compiled for any T; torch.compile makes graphs of what is before and after.
        return torch.compiler.disable(unroll)(module, xs, **options)  # type: ignore[arg-type]
    if torch.compiler.is_dynamo_compiling() and exporting():
        if return_states or record or gradient != "surrogate":
            raise NotCompilable(
                "unroll: with strict=True, torch.export takes none of return_states=, record= and "
                "gradient='eventprop'; leave out strict=True"
            )
        return written_out(module, arguments_of(xs)[0], states)
    if way := way_for(gradient, states=states, return_states=return_states, checkpoint=checkpoint, record=record):
        if torch.compiler.is_compiling() or inside_transform():
            raise NotCompilable(f"unroll: gradient={gradient!r} cannot be exported, nor run inside torch.func")
        return way(module, xs)
    arguments, leaves = arguments_of(xs)
    T = leaves[0].shape[0]
    if checkpoint is not None and (not isinstance(checkpoint, int) or checkpoint < 1):
        raise ValueError(f"unroll: checkpoint must be a positive whole number of steps, got {checkpoint!r}")
    if module._modules and named_dynamics(module):  # a layer by itself has one
        check_dt(module)
    traced = torch.compiler.is_compiling()
    if compile and not traced and (is_tracing() or any([is_fake(x) for x in leaves])):
        raise NotCompilable(
            "unroll is called where tensors have no values: inside the step of a module that is unrolled itself, or on "
            "fake tensors; there, use unroll(..., compile=False)"
        )
    transformed = inside_transform() if not traced else False
    if transformed is None and compile:
        warn_once("unroll runs step by step in Python: this torch does not tell whether a transform is at work")
    inside = traced or transformed is not False
    restore = hold_states(module) if transformed or (traced and exporting()) else None  # no tensor may stay behind
    compile = compile and not inside and not is_watching()
    checkpoint = None if inside else checkpoint
    if states is not None:
        set_states(module, states)
        if left_out := set(_names(module)) - set(held_states(module)):
            raise KeyError(f"unroll: states= leaves out {', '.join(sorted(left_out))}")

    watch = Watch(module, record) if record else _UNWATCHED
    if watch.targets and return_states:
        raise ValueError("unroll: with record=, the final states are recording.states; leave out return_states")
    mode = Mode(compile, Quiet(), return_states or bool(watch.targets), states is None, states is not None)
    looks = not inside and torch.is_grad_enabled()
    try:
        if progress and not inside and T >= _LONG:
            with progress_bar(T * len(layers(module)), after=2.0) as bar:
                ys = _all_rows(module, arguments, mode._replace(bar=bar), checkpoint, watch, looks)
        else:
            ys = _all_rows(module, arguments, mode, checkpoint, watch, looks)
    except (ValueError, RuntimeError, TypeError) as error:
        explain_layout(error, module, arguments, states is not None)
        raise
    final = held_states(module) if watch.targets or return_states else {}
    final = {name: value.clone() for name, value in final.items()}  # apart from what the module goes on with
    if mode.attached or checkpoint is not None:
        detach_states(module)
    if not (inside or is_watching()):
        look_for_nan(module, arguments, states)
    if restore is not None:
        restore()
    if watch.targets:
        return ys, watch.recording(final, T)
    return (ys, final) if return_states else ys


class Options(TypedDict, total=False):
    """The keywords of `unroll`."""

    states: Mapping[str, Tensor] | None
    return_states: bool
    compile: bool
    checkpoint: int | None
    record: str | Iterable[str]
    progress: bool
    gradient: Literal["surrogate", "eventprop"]


class Unroll(nn.Module):
    """`unroll` as a module, for use inside ``nn.Sequential``: input and output have time in front.

    Args:
        module: runs over time; its states are reset at every call.
        options: keywords of `unroll`, such as ``compile=False``, ``checkpoint=`` and ``return_states=``.

    Raises:
        TypeError: a keyword that `unroll` does not take.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 8), nd.Unroll(nd.LIF(8)), torch.nn.Linear(8, 2))
        >>> net(torch.rand(50, 4, 3)).shape  # time, batch, features
        torch.Size([50, 4, 2])
    """

    def __init__(self, module: nn.Module, **options: Unpack[Options]):
        super().__init__()
        names = list(Options.__annotations__)
        for word in options:
            if word not in names:
                raise TypeError(f"Unroll has no option {word!r}; it takes {', '.join(names)}{nearest(word, names)}")
        self.module, self.options = module, options

    def forward(self, xs: Any) -> Any:
        return unroll(self.module, xs, **self.options)


def _names(module: nn.Module) -> list[str]:
    return [f"{path}.{name}".removeprefix(".") for path, layer in named_dynamics(module) for name in layer.states]


def _all_rows(module: nn.Module, ys: Any, mode: Mode, checkpoint: int | None, watch: Watch, looks: bool) -> Any:
    """The output of the last layer, and records in `watch`; with `looks`, silent layers are said."""
    if looks:
        with names_in(module):
            return _rows(module, ys, mode, checkpoint, watch, True)
    return _rows(module, ys, mode, checkpoint, watch, False)


def _rows(module: nn.Module, ys: Any, mode: Mode, checkpoint: int | None, watch: Watch, looks: bool) -> Any:
    ours = False
    for row in rows(module, checkpoint is None or bool(watch.targets)):
        layer, xs = row[-1], ys
        ys = ys if isinstance(ys, tuple) else (ys,)
        in_parts = checkpoint is not None and can_repeat(row)
        own = [watch.around(layer) for layer in row] if watch.targets else row
        if looks and not in_parts:
            settle_last(layer)
        if checkpoint is not None and in_parts:
            ys, ours = in_blocks(own, ys, checkpoint, mode), False
        else:
            ys, ours = run_row(own, ys, mode, ours and not watch.targets)
        ys = watch.taken(own[-1], ys) if watch.targets else ys
        if looks and not in_parts:
            look(module, layer, xs, ys)
        if looks and mode.compile:
            look_inside(module, row, xs if isinstance(xs, tuple) else (xs,), ys, mode.reset)
    return ys
