"""A `Program` is a module's chunk of K time steps: traced once as a pure function, compiled by Inductor.

The forward chunk takes states, constants (parameters and buffers) and K inputs; it writes K outputs and returns the new
states. The backward chunk starts from the same states, recomputes the K steps and pulls the gradients back through
them; it writes the gradient of the inputs and adds to the gradients of the parameters.

Batch dimensions are symbols in the trace, so every batch size runs the same code, and T never enters.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._dynamo.source import ConstantSource
from torch._guards import TracingContext, tracing
from torch._inductor import config as inductor
from torch._inductor.compile_fx import compile_fx_inner
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.virtualized import V
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils import _pytree as pytree

from ..solve import without_saved_tensor_hooks
from ..states import constants, get_states, pure, same_tensors
from . import products
from .background import Names, in_background, wait_for
from .errors import BatchSpecialised, NotCompilable
from .fold import fold
from .opened import Opened
from .replay import Tape
from .share import Share

aten = torch.ops.aten

#: What torch does in place to a temporary, in the product of a vector and a matrix.
_ON_TEMPORARIES = {aten.squeeze_.dim: aten.squeeze.dim, aten.add_.Tensor: aten.add.Tensor}

#: Held while a thread traces or compiles: torch does it in one thread at a time.
TRACING = threading.RLock()

#: (nodes in the traced graph of one step, steps in a chunk): shorter chunks for larger steps bound the compile time.
CHUNK = ((70, 8), (95, 4), (250, 2))


class Folded(NamedTuple):
    """A compiled chunk, in two parts.

    ``prologue(*constants) -> values`` computes what depends on the constants alone, once for a whole sequence;
    ``chunk([*inputs, *values]) -> states``. `tape` calls the chunk and tells what it did, if that can be told.
    """

    prologue: Callable[..., Sequence[Tensor]]
    chunk: Callable[[list[Tensor]], Sequence[Tensor]]
    tape: Tape | None


class Pending:
    """A chunk whose kernels may still be compiled, in the background."""

    def __init__(self, prologue: Callable, chunk: Callable, written: list[Names]):
        self.prologue, self.chunk, self.written = prologue, chunk, written
        self._folded: Folded | None = None

    def result(self) -> Folded:
        """The chunk, ready to be called.

        Raises:
            NotCompilable: with what the compiler said.
        """
        if self._folded is None:
            with TRACING:
                try:
                    wait_for(self.written)
                except Exception as error:
                    raise NotCompilable(_explain(error)) from error
                self._folded = Folded(self.prologue, _below_autograd(self.chunk), Tape.of(self.chunk))
        return self._folded


class Layout(NamedTuple):
    """Shape, dtype and device of a tensor; a size of -1 - i stands for the i-th free size, batch dimensions first."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor, batch: tuple[int, ...] = ()) -> Layout:
        n = len(batch) if tuple(tensor.shape[: len(batch)]) == batch else 0
        return cls((*range(-1, -1 - n, -1), *tensor.shape[n:]), tensor.dtype, tensor.device)

    def empty(self, batch: Sequence[Any], *lead: int) -> Tensor:
        shape = [batch[-1 - n] if n < 0 else n for n in self.shape]
        return torch.empty((*lead, *shape), dtype=self.dtype, device=self.device)


class Program:
    """The compiled chunks of one kind of module for one layout of its inputs.

    Args:
        net: a module of this kind, its states set.
        x, spec: the inputs of one step, as tensors and the pytree of arguments that they came from.
        batch: the leading sizes that may vary from call to call; empty to compile for the shapes at hand alone.
        opened: the sizes of constants that may vary as well.

    Raises:
        NotCompilable: the step draws random numbers or writes to a buffer.
        BatchSpecialised: the step does different things for different free sizes.
    """

    def __init__(
        self, net: nn.Module, x: Sequence[Tensor], spec: pytree.TreeSpec, batch: tuple[int, ...], opened: Opened
    ):
        states, constant = get_states(net), constants(net)
        self.spec, self.batch = spec, batch
        self.free = (*batch, *dict(opened.values()).values())
        self.state_names, self.constant_names = list(states), list(constant)
        self.learned = [i for i, value in enumerate(constant.values()) if value.requires_grad]
        self.states = [Layout.of(value, batch) for value in states.values()]
        self.constants = [Layout.of(value) for value in constant.values()]
        for i, name in enumerate(constant):
            if name in opened:  # a free size after those of the batch
                shape = (-1 - len(batch) - opened[name][0], *self.constants[i].shape[1:])
                self.constants[i] = self.constants[i]._replace(shape=shape)
        self.xs = [Layout.of(value, batch) for value in x]
        self.output_spec: Any = None
        self._compiled: dict[Any, Pending] = {}
        self._failure: str | None = None

        def probe(states, constant, xs):
            new, outs, self.output_spec = self._loop(net, states, constant, [xs])
            return [*new, *outs[0]]

        graph, _, symbols = self._trace(probe, _plain(self.states), _plain(self.constants), _plain(self.xs))
        _refuse_impure(graph)
        symbols = symbols[: len(batch)]
        self.outs = [_layout(value, symbols) for value in _outputs(graph)[len(states) :]]
        n, m = len(states), len(states) + len(constant)
        self.varying = (*range(n), *range(m, m + len(self.xs)))
        try:
            found = products.products(graph.graph, self.varying)
            self.products = [_layout(node.meta["val"], symbols) for node in found]
            self.kinds = [node.target for node in found]
        except BatchSpecialised:  # of sizes that are no batch dimensions
            self.products, self.kinds = [], []
        self.steps = next((steps for limit, steps in CHUNK if len(graph.graph.nodes) <= limit), 1)

    def forward(self, net: nn.Module, steps: int, keep: bool = False) -> Pending:
        """``[*states, *constants, *xs, *outs, *kept] -> states``, writing the outs of each step in turn.

        With `keep` it also writes the matrix products of each step in turn.
        """

        def chunk(states, constant, xs, outs, kept):
            with torch.no_grad():
                states, values, _ = self._loop(net, states, constant, _steps(xs))
            _write(outs, values)
            return states

        inputs = _plain(self.states), _plain(self.constants), _timed(self.xs, steps), steps * _plain(self.outs)
        kept = steps * _plain(self.products) if keep else []
        return self._compile(("forward", steps, keep), chunk, *inputs, kept, edit=products.keep)

    def backward(self, net: nn.Module, steps: int, wanted: tuple[bool, ...], keep: bool = False) -> Pending:
        """``[*states, *constants, *xs, *grad_states, *grad_outs, *grad_xs, *sums, *kept] -> grad_states``.

        Writes the gradients of those xs that are `wanted`, of each step in turn, and adds to the sums of the
        parameters' gradients. With `keep` it takes the matrix products of the forward pass.
        """

        def chunk(states, constant, xs, grad_states, grad_outs, grad_xs, sums, kept):
            def run(states, learned, selected):
                values = list(constant)
                for index, value in zip(self.learned, learned, strict=True):
                    values[index] = value
                mixed = [_merge(x, chosen, wanted) for x, chosen in zip(_steps(xs), selected, strict=True)]
                return self._loop(net, states, values, mixed)[:2]

            selected = [[x for x, want in zip(step, wanted, strict=True) if want] for step in _steps(xs)]
            _, pull, *_ = torch.func.vjp(run, list(states), [constant[i] for i in self.learned], selected)
            grad_start, grad_learned, grads = pull((list(grad_states), _steps(grad_outs)))
            totals = [total + grad for total, grad in zip(sums, grad_learned, strict=True)]
            _write([*grad_xs, *sums], [*grads, totals])
            return grad_start

        states, fixed = _plain(self.states), _plain(self.constants)
        xs, outs = _timed(self.xs, steps), _timed(self.outs, steps)
        grad_xs = steps * [x for x, want in zip(_plain(self.xs), wanted, strict=True) if want]
        inputs = states, fixed, xs, states, outs, grad_xs, [fixed[i] for i in self.learned]
        kept = steps * _plain(self.products) if keep else []
        reuse = functools.partial(products.reuse, kinds=steps * self.kinds)
        return self._compile(("backward", steps, wanted, keep), chunk, *inputs, kept, edit=reuse)

    def _loop(self, net: nn.Module, states: Sequence[Tensor], constant: Sequence[Tensor], xs: Sequence[Any]) -> Any:
        """Steps of the pure function of `net`: the new states, the outputs of each step, the pytree of one output."""
        fixed, outs, spec = dict(zip(self.constant_names, constant, strict=True)), [], None
        with Share(constant), same_tensors(net):
            for x in xs:
                tensors = fixed | dict(zip(self.state_names, states, strict=True))
                y, new = pure(net, tensors, *pytree.tree_unflatten(list(x), self.spec))
                states = [new[name] for name in self.state_names]
                leaves, spec = pytree.tree_flatten(y)
                outs.append(leaves)
        return list(states), outs, spec

    def _trace(self, chunk: Callable, *inputs: list[tuple[Layout, tuple[int, ...]]]) -> tuple[GraphModule, list, list]:
        """The ATen graph of `chunk`, the fake inputs that it was traced with, and the free sizes' symbols."""
        env = ShapeEnv(specialize_zero_one=False, duck_shape=False)
        batch, symbols = [], []
        for i, size in enumerate(self.free):
            source, hint = ConstantSource(f"size{i}"), max(size, 2)  # 1 would be taken for a broadcast dimension
            symbols.append(env.create_symbol(hint, source, dynamic_dim=DimDynamic.DYNAMIC))
            batch.append(env.create_symintnode(symbols[-1], hint=hint, source=source))
        with FakeTensorMode(shape_env=env), torch.enable_grad():
            fakes = [[layout.empty(batch, *lead) for layout, lead in kind] for kind in inputs]
            flat, spec = pytree.tree_flatten(fakes)
            graph = make_fx(
                lambda *args: pytree.tree_leaves(chunk(*pytree.tree_unflatten(list(args), spec))),
                decomposition_table=select_decomp_table(),
            )(*flat)
        for node in graph.graph.nodes:
            node.target = _ON_TEMPORARIES.get(node.target, node.target)
        if symbols and not _holds_for_every_batch(env, symbols):
            raise BatchSpecialised
        return graph, flat, symbols

    def _compile(self, key: Any, chunk: Callable, *inputs: list[tuple[Layout, tuple[int, ...]]], edit: Any) -> Pending:
        if self._failure is not None:
            raise NotCompilable(self._failure)
        if key not in self._compiled:
            with TRACING, without_saved_tensor_hooks():
                if key not in self._compiled:  # another thread may have been first
                    self._compiled[key] = self._folded(chunk, *inputs, edit=edit)
        return self._compiled[key]

    def _folded(self, chunk: Callable, *inputs: list[tuple[Layout, tuple[int, ...]]], edit: Any) -> Pending:
        graph, fakes, _ = self._trace(chunk, *inputs)
        if kept := len(inputs[-1]):
            edit(graph.graph, self.varying, range(len(fakes) - kept, len(fakes)))
        fixed = range(len(self.states), len(self.states) + len(self.constants))
        products.large(graph.graph, fixed)
        prologue, graph, fakes = fold(graph, fakes, fixed)
        with inductor.patch(size_asserts=False), in_background() as written:  # inputs are laid out as traced
            chunk = self._inductor(graph, fakes)
        return Pending(prologue.forward, chunk, written)

    def _inductor(self, graph: GraphModule, fakes: list[Tensor]) -> Callable[[list[Tensor]], Sequence[Tensor]]:
        mode = fakes[0].fake_mode  # type: ignore[attr-defined]
        try:
            with V.set_fake_mode(mode), tracing(TracingContext(mode)), torch.no_grad():
                return compile_fx_inner(graph, fakes)
        except Exception as error:
            self._failure = _explain(error)
            raise NotCompilable(self._failure) from error


def _below_autograd(chunk: Callable) -> Callable:
    """`chunk`, whose operators need not look for gradients, which takes them 5 us each."""

    def call(inputs: list[Tensor]) -> Sequence[Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            return chunk(inputs)

    return call


def _explain(error: Exception) -> str:
    if "InvalidCxxCompiler" in f"{type(error).__name__} {error}":
        return "there is no working C++ compiler; install one (apt-get install g++), or name it in the variable CXX"
    return f"Inductor failed ({type(error).__name__}: {error})"


def _plain(layouts: list[Layout]) -> list[tuple[Layout, tuple[int, ...]]]:
    return [(layout, ()) for layout in layouts]


def _timed(layouts: list[Layout], steps: int) -> list[tuple[Layout, tuple[int, ...]]]:
    return [(layout, (steps,)) for layout in layouts]


def _steps(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors with time in front as a row of tensors for each step."""
    return [list(row) for row in zip(*(tensor.unbind(0) for tensor in tensors), strict=True)]


def _merge(x: Sequence[Tensor], chosen: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor]:
    """`x` with the `wanted` ones replaced."""
    given = iter(chosen)
    return [next(given) if want else value for value, want in zip(x, wanted, strict=True)]


def _write(outs: Sequence[Tensor], rows: Sequence[Sequence[Tensor]]) -> None:
    for out, value in zip(outs, [value for row in rows for value in row], strict=True):
        out.copy_(value)


def _outputs(graph: GraphModule) -> list[Tensor]:
    return [node.meta["val"] for node in graph.graph.output_node().args[0]]  # type: ignore[union-attr]


def _layout(value: Tensor, symbols: list[Any]) -> Layout:
    shape = [d if isinstance(d, int) else _index(d, symbols) for d in value.shape]
    return Layout(tuple(shape), value.dtype, value.device)


def _index(size: torch.SymInt, symbols: list[Any]) -> int:
    if size.node.expr not in symbols:
        raise BatchSpecialised
    return -1 - symbols.index(size.node.expr)


def _holds_for_every_batch(env: ShapeEnv, symbols: list[Any]) -> bool:
    """Whether what the trace assumed of the batch is true of any batch; that a size is not 1 may be assumed."""
    if any(symbol in env.replacements for symbol in symbols):
        return False
    return all(guard.expr.subs(dict.fromkeys(symbols, n)) for guard in env.guards for n in (2, 3, 97, 65537))


def _refuse_impure(graph: GraphModule) -> None:
    for node in graph.graph.nodes:
        target = node.target
        if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
            continue
        if torch.Tag.nondeterministic_seeded in target.tags or "inductor_random" in str(target):
            raise NotCompilable(
                f"its step draws random numbers ({target}), and the backward pass would draw others; "
                "draw them before the loop and pass them as inputs"
            )
        if target._schema.is_mutable:
            raise NotCompilable(f"its step writes to a tensor in place ({target})")
