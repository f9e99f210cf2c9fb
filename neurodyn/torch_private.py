"""Every private interface of torch that neurodyn uses, in one place.

`NAMES` lists them. A torch release may drop any of them, so nothing here is looked up when neurodyn is imported, and
each function says what it does without its name: what only saves time or memory is left out, and what the compiled
loop needs raises `Missing`, which the engine takes as a reason to run step by step. The versions of torch on which
each part has run stand in neurodyn/engine/README.md.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd import forward_ad
from torch.utils import _pytree as pytree  # has no public name yet, and torch.export's documentation refers to it

from .tools.errors import NotCompilable

tree_flatten, tree_unflatten, tree_leaves, tree_map = (
    pytree.tree_flatten,
    pytree.tree_unflatten,
    pytree.tree_leaves,
    pytree.tree_map,
)
TreeSpec = pytree.TreeSpec

#: Where each private name lies, as "module:attribute".
NAMES = {
    # eager steps
    "peek_interpreter_stack": "torch._C._functorch:peek_interpreter_stack",
    "current_graph_task_id": "torch._C:_current_graph_task_id",
    "graph_is_kept": "torch._C._autograd:_get_current_graph_task_keep_graph",
    "top_saved_tensor_hooks": "torch._C._autograd:_top_saved_tensors_default_hooks",
    "pop_saved_tensor_hooks": "torch._C._autograd:_pop_saved_tensors_default_hooks",
    "push_saved_tensor_hooks": "torch._C._autograd:_push_saved_tensors_default_hooks",
    "is_batched": "torch._C._functorch:is_legacy_batchedtensor",
    "below_autograd": "torch._C:_AutoDispatchBelowAutograd",
    "forward_hooks": "torch.nn.modules.module:_global_forward_hooks",
    "forward_pre_hooks": "torch.nn.modules.module:_global_forward_pre_hooks",
    "foreach_copy": "torch:_foreach_copy_",
    "isolated_graph": "torch.fx.experimental.proxy_tensor:get_isolated_graphmodule",
    "scan": "torch._higher_order_ops.scan:scan_op",
    # tracing
    "FakeTensor": "torch._subclasses:FakeTensor",
    "FakeTensorMode": "torch._subclasses:FakeTensorMode",
    "ShapeEnv": "torch.fx.experimental.symbolic_shapes:ShapeEnv",
    "DimDynamic": "torch.fx.experimental.symbolic_shapes:DimDynamic",
    "ConstantSource": "torch._dynamo.source:ConstantSource",
    "make_fx": "torch.fx.experimental.proxy_tensor:make_fx",
    "TorchDispatchMode": "torch.utils._python_dispatch:TorchDispatchMode",
    "decompositions": "torch._inductor.decomposition:select_decomp_table",
    # compiling
    "compile_graph": "torch._inductor.compile_fx:compile_fx_inner",
    "inductor_options": "torch._inductor:config",
    "virtualized": "torch._inductor.virtualized:V",
    "TracingContext": "torch._guards:TracingContext",
    "tracing": "torch._guards:tracing",
    # `neurodyn info`
    "cpp_compiler": "torch._inductor.cpp_builder:get_cpp_compiler",
    "cache_dir": "torch._inductor.runtime.cache_dir_utils:cache_dir",
}
_COMPILING = tuple(NAMES)[tuple(NAMES).index("FakeTensor") : tuple(NAMES).index("cpp_compiler")]


class Missing(NotCompilable):
    """This torch lacks a private name that is needed."""


@functools.cache
def find(name: str) -> Any:
    """The object behind one of `NAMES`; None if this torch does not have it."""
    module, _, attribute = NAMES[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return None


def need(name: str) -> Any:
    """The object behind one of `NAMES`.

    Raises:
        Missing: this torch does not have it.
    """
    if (found := find(name)) is None:
        raise Missing(f"torch {torch.__version__} has no {NAMES[name].replace(':', '.')}")
    return found


def missing() -> list[str]:
    """Which of `NAMES` this torch lacks."""
    return [place.replace(":", ".") for name, place in NAMES.items() if find(name) is None]


# --- what runs around a step -----------------------------------------------------------------------------


def inside_transform() -> bool | None:
    """Whether a transform of torch.func, such as vmap, runs this; None if this torch cannot tell."""
    peek = find("peek_interpreter_stack")
    return None if peek is None else peek() is not None


def in_forward_mode() -> bool:
    """Whether derivatives may be computed forwards now, as by ``torch.func.jvp``; True where torch does not say."""
    return getattr(forward_ad, "_current_level", 0) >= 0


def backward_pass() -> int:
    """A number for the backward pass that runs now, -1 outside of any (or if this torch cannot tell)."""
    task = find("current_graph_task_id")
    return -1 if task is None else task()


def can_overwrite_saved_tensors() -> bool:
    """Whether the running backward pass is the last one that reads what its graph has saved."""
    kept = find("graph_is_kept")
    return kept is not None and not torch.is_grad_enabled() and not kept()


def stands_for_many(grads: Sequence[Tensor]) -> bool:
    """Whether gradients stand for many each, as for ``is_grads_batched=True`` (True if unknown)."""
    is_batched = find("is_batched")
    return is_batched is None or inside_transform() is not False or any(is_batched(grad) for grad in grads)


def has_hooks(tensor: Tensor) -> bool:
    """Whether hooks wait for the gradient of a tensor (True if this torch cannot tell)."""
    return bool(getattr(tensor, "_backward_hooks", True))


def has_gradient_hooks(leaf: Tensor) -> bool:
    """Whether hooks wait for the gradient of a leaf, or for its sum in ``.grad`` (True if this torch cannot tell)."""
    return has_hooks(leaf) or bool(getattr(leaf, "_post_accumulate_grad_hooks", True))


def has_saved_tensor_hooks() -> bool:
    """Whether hooks, such as torch.utils.checkpoint's, see what is saved for a backward pass (True if unknown)."""
    top = find("top_saved_tensor_hooks")
    return top is None or top(False) is not None


@contextlib.contextmanager
def without_saved_tensor_hooks() -> Iterator[None]:
    """Suspend hooks on saved tensors: torch.func and tracing refuse to work under them."""
    top, pop, push = (find(f"{verb}_saved_tensor_hooks") for verb in ("top", "pop", "push"))
    hooks: list[Any] = []
    while None not in (top, pop, push) and (hook := top(True)) is not None:
        hooks.append(hook)
        pop()
    try:
        yield
    finally:
        for pack, unpack in reversed(hooks):
            push(pack, unpack)


def below_autograd() -> contextlib.AbstractContextManager[Any]:
    """Inside, operators do not look for gradients, which saves some microseconds each."""
    guard = find("below_autograd")
    return contextlib.nullcontext() if guard is None else guard()


def has_module_hooks() -> bool:
    """Whether hooks for all modules are registered (True if unknown)."""
    hooks, pre_hooks = find("forward_hooks"), find("forward_pre_hooks")
    return hooks is None or pre_hooks is None or len(hooks) + len(pre_hooks) > 0


def is_fake(value: object) -> bool:
    """Whether a tensor has no values because something is being traced."""
    kind = find("FakeTensor") if type(value) is not Tensor else None
    return kind is not None and isinstance(value, kind)


def read_by_export() -> bool:
    """Whether torch.export asks, also before and after the time in which ``torch.compiler.is_exporting()``."""
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("torch.export."):
            return True
        frame = frame.f_back
    return False


def copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy many tensors of one dtype, with a single launch on a GPU."""
    if (copy := find("foreach_copy")) is not None:
        copy(targets, sources)
    else:
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source)


# --- tracing ---------------------------------------------------------------------------------------------


def load_compiler() -> None:
    """Import what traces and compiles, which takes seconds.

    Raises:
        Missing: this torch does not have it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Inductor's own imports
        with contextlib.suppress(ImportError):  # torch imports it later, when another thread may import something
            importlib.import_module("setuptools")
        for name in _COMPILING:
            need(name)


class Sizes:
    """Free sizes for a trace: a symbol for each, which stands for any number above one.

    Args:
        hints: example values.

    Attributes:
        mode: inside this context tensors have shapes and no values.
        sizes: the symbols as sizes, for shapes.
    """

    def __init__(self, hints: Sequence[int]):
        self.environment = need("ShapeEnv")(specialize_zero_one=False, duck_shape=False)
        self.mode = need("FakeTensorMode")(shape_env=self.environment)
        self.sizes, self.symbols = [], []
        for i, hint in enumerate(hints):
            source, hint = need("ConstantSource")(f"size{i}"), max(hint, 2)  # 1 would be taken for a broadcast one
            symbol = self.environment.create_symbol(hint, source, dynamic_dim=need("DimDynamic").DYNAMIC)
            self.symbols.append(symbol)
            self.sizes.append(self.environment.create_symintnode(symbol, hint=hint, source=source))

    def are_free(self) -> bool:
        """Whether all that a trace has assumed of the sizes is true of any sizes above one."""
        if any(symbol in self.environment.replacements for symbol in self.symbols):
            return False
        probes = [dict.fromkeys(self.symbols, n) for n in (2, 3, 97, 65537)]
        probes.append({symbol: 5 + 3 * i for i, symbol in enumerate(self.symbols)})
        return all(guard.expr.subs(probe) for guard in self.environment.guards for probe in probes)

    def number_of(self, size: Any) -> int | None:
        """Which free size this is; None if it is an expression of them."""
        expression = size.node.expr
        return self.symbols.index(expression) if expression in self.symbols else None


def traced(function: Callable[..., Any], inputs: Sequence[Tensor], decompose: bool) -> fx.GraphModule:
    """The ATen graph of a function of tensors; with `decompose` in the operators that Inductor compiles."""
    return need("make_fx")(function, decomposition_table=need("decompositions")() if decompose else None)(*inputs)


def around_operators(
    wrap: Callable[[Any, Any, Any, Any], contextlib.AbstractContextManager[Any]],
) -> contextlib.AbstractContextManager[Any]:
    """Inside, every operator runs inside ``wrap(operator, classes of its tensors, args, kwargs)``.

    Also those that autograd calls.
    """

    class Around(need("TorchDispatchMode")):
        def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            with wrap(operator, types, args, kwargs or {}):
                return operator(*args, **(kwargs or {}))

    return Around()


def terms_of(size: Any) -> tuple[frozenset[Any], int]:
    """The symbols in a size, and the number that they are multiplied by."""
    if isinstance(size, int):
        return frozenset(), size
    expression = size.node.expr
    return frozenset(expression.free_symbols), int(expression.as_coeff_Mul()[0])


def isolated_graph(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[..., Any]:
    """For torch.export, which sees no transforms: the operations that `function` makes, as a graph."""
    return need("isolated_graph")(function, inputs, {})


def scan(step: Callable[..., Any], start: list[Tensor], xs: list[Tensor], further: tuple[Any, ...]) -> Any:
    """A loop over time in the graph that torch.export makes."""
    return need("scan")(step, start, xs, further)


# --- compiling -------------------------------------------------------------------------------------------


def compiled(graph: fx.GraphModule, inputs: Sequence[Tensor], mode: Any, options: dict[str, Any]) -> Callable[..., Any]:
    """`graph` compiled by Inductor, called with a list of tensors that lie as the fake `inputs` do."""
    config, context = need("inductor_options"), need("TracingContext")(mode)
    with config.patch(options), need("virtualized").set_fake_mode(mode), need("tracing")(context), torch.no_grad():
        return need("compile_graph")(graph, list(inputs))


def cpp_compiler() -> str:
    """The C++ compiler that Inductor calls.

    Raises:
        Exception: it finds none that works.
    """
    return need("cpp_compiler")()


def compile_cache() -> str:
    """The folder in which Inductor keeps what it has compiled."""
    return need("cache_dir")()


def written_function(chunk: Any) -> tuple[Any, dict[str, Any], Any] | None:
    """The code that Inductor wrote around the kernels of a compiled graph, its globals and its first argument."""
    call: Any = getattr(chunk, "current_callable", None)
    if inspect.isfunction(call):  # around it, one that copies inputs which lie at an odd address
        call = inspect.getclosurevars(call).nonlocals.get("model")
    if not inspect.ismethod(call):
        return None
    return call.__code__, call.__func__.__globals__, call.__self__  # type: ignore[attr-defined]


def cpp_kernel_library(kernel: Any) -> str:
    """The path of the library in which a C++ kernel of Inductor lies, as the symbol "kernel"."""
    return kernel.__self__.__file__


def triton_launch(kernel: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """What torch's launcher for a Triton kernel hands to CUDA for these arguments; None before its first run.

    ``(function, blocks x, y, z, warps, shared bytes, kinds of the arguments, arguments)``
    """
    if len(kernel.launchers) != 1:
        return None
    (written,) = kernel.launchers
    runner, heard = written.__globals__["runner"].__self__, []
    listener = SimpleNamespace(**vars(runner))
    listener.C_impl = SimpleNamespace(_launch_kernel=lambda *launch: heard.append(launch))
    scope = written.__globals__ | {"runner": functools.partial(type(runner).run, listener)}
    FunctionType(written.__code__, scope)(*arguments, stream=0)
    ((function, x, y, z, warps, shared, kinds, values, _),) = heard
    return function, x, y, z, warps, shared, kinds, values


def elements(tensor: Tensor) -> tuple[frozenset[Any], int]:
    """About the number of elements of a traced tensor: free sizes, and what they are to be multiplied by."""
    terms = [terms_of(size) for size in tensor.shape]
    return frozenset().union(*(symbols for symbols, _ in terms)), math.prod(n for _, n in terms)
