"""Event-driven products of spikes with a sparse matrix, as operators that torch.compile takes as they are.

The matrix is in CSR form with int32 indices: row i holds the synapses that input i makes, ``indices[indptr[i]:
indptr[i + 1]]`` their targets. With synapse k from input $i_k$ to output $j_k$ there are three products, and the
derivatives of each are the other two::

    matmul        y_j = sum of x_i w_k over the synapses to j      work proportional to the non-zero x
    input_grad    x_i = sum of w_k g_j over the synapses of i
    weight_grad   w_k = x_i g_j                                    work proportional to the non-zero x

On the CPU they are C++, on CUDA Triton kernels, elsewhere plain torch (`neurodyn.ops.event_plain`). Each checks what
it gets, whoever calls it: sizes, dtypes and indices.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..tools.user_warning import warn_user
from . import event_plain, native

_library = torch.library.Library("neurodyn", "FRAGMENT")
_library.define("event_matmul(Tensor x, Tensor weight, Tensor indptr, Tensor indices, SymInt n_out) -> Tensor")
_library.define("event_input_grad(Tensor g, Tensor weight, Tensor indptr, Tensor indices) -> Tensor")
_library.define("event_weight_grad(Tensor x, Tensor g, Tensor indptr, Tensor indices) -> Tensor")
_library.define("event_product(Tensor x, Tensor weight, Tensor indptr, Tensor indices, SymInt n_out) -> Tensor")
_library.define("event_nonzero(Tensor x) -> Tensor")
_ops = torch.ops.neurodyn

#: Whether `prepare` has been called in this process.
_asked, _found = False, False


class PlainTorchWarning(UserWarning):
    """The compiled kernels are missing, for the reason that the message gives; results are the same, only slower."""


def library() -> ctypes.CDLL:
    """The compiled kernels.

    Raises:
        NotAvailable: with the reason.
    """
    return native.load(Path(__file__).with_suffix(".cpp"))


def prepare() -> bool:
    """Make the C++ kernels available; returns whether they are. Warns once per process if they are not."""
    global _asked, _found
    if _asked:
        return _found
    _asked = True
    try:
        library()
    except native.NotAvailable as error:
        warn_user(
            f"sparse connections on the CPU run in plain torch, several times slower: {error}",
            PlainTorchWarning,
        )
        return False
    _found = True
    return True


@functools.cache
def triton_kernels() -> ModuleType | None:
    """The kernels for CUDA; None, with a warning, if they cannot be imported."""
    try:
        return importlib.import_module(".event_triton", __package__)
    except ImportError as error:
        warn_user(
            f"sparse connections on CUDA run in plain torch, because Triton cannot be imported: {error}; "
            "pip install triton",
            PlainTorchWarning,
        )
        return None


def matmul(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
    """``(*batch, n_in) -> (*batch, n_out)``, with one weight for all synapses (a scalar) or one for each.

    Raises:
        ValueError: sizes that do not fit, or an index out of range, which the message names.
        TypeError: a dtype that does not fit.
    """
    if not _asked and not torch.compiler.is_compiling():
        prepare()
    if torch.compiler.is_exporting():  # the program keeps the operator, and nothing of `_Matmul`
        return _ops.event_product(x, weight, indptr, indices, n_out)
    return _Matmul.apply(x, weight, indptr, indices, n_out)


def nonzero(x: Tensor) -> Tensor:
    """The positions of the non-zero elements of `x` in memory order, one number each."""
    prepare()
    return _ops.event_nonzero(x)


def _weight_grad(x: Tensor, g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    if weight.dim():
        return _WeightGrad.apply(x, g, indptr, indices)
    return (x * _InputGrad.apply(g, torch.ones_like(weight), indptr, indices)).sum()


class _Matmul(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
        return _ops.event_matmul(x, weight, indptr, indices, n_out)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Any, ...]:
        x, weight, *matrix = ctx.saved_tensors
        of_x = _InputGrad.apply(g, weight, *matrix) if ctx.needs_input_grad[0] else None
        of_weight = _weight_grad(x, g, weight, *matrix) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, None, None, None


class _InputGrad(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
        return _ops.event_input_grad(g, weight, indptr, indices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, x: Tensor) -> tuple[Any, ...]:
        g, weight, *matrix = ctx.saved_tensors
        of_g = _Matmul.apply(x, weight, *matrix, g.shape[-1]) if ctx.needs_input_grad[0] else None
        of_weight = _weight_grad(x, g, weight, *matrix) if ctx.needs_input_grad[1] else None
        return of_g, of_weight, None, None


class _WeightGrad(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
        return _ops.event_weight_grad(x, g, indptr, indices)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, w: Tensor) -> tuple[Any, ...]:
        x, g, *matrix = ctx.saved_tensors
        of_x = _InputGrad.apply(g, w, *matrix) if ctx.needs_input_grad[0] else None
        of_g = _Matmul.apply(x, w, *matrix, g.shape[-1]) if ctx.needs_input_grad[1] else None
        return of_x, of_g, None, None


def _fake_matmul(x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor, n_out: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], n_out))


def _fake_input_grad(g: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    return g.new_empty((*g.shape[:-1], indptr.shape[0] - 1))


def _fake_weight_grad(x: Tensor, g: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    return x.new_empty((indices.shape[0],))


def _on_cuda(name: str, *args: Any) -> Tensor:
    """The Triton kernel, or plain torch where there is no Triton."""
    kernels = triton_kernels()
    if kernels is None:
        return getattr(event_plain, name)(*args)
    event_plain.check(name, args, once=True)
    return getattr(kernels, name)(*args)


def _batched(op: Any, over_batch: tuple[int, ...], info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
    """The operator under vmap: as one more batch dimension where it allows one, else one call after the other."""
    mapped = {i for i, dim in enumerate(in_dims) if dim is not None}
    args = tuple(a if dim is None else a.movedim(dim, 0) for a, dim in zip(args, in_dims, strict=True))
    if mapped and mapped == set(over_batch):
        return op(*args), 0
    each = (op(*(a[i] if k in mapped else a for k, a in enumerate(args))) for i in range(info.batch_size))
    return torch.stack(list(each)), 0


_FAKES: dict[str, tuple[Callable[..., Tensor], tuple[int, ...]]] = {
    "matmul": (_fake_matmul, (0,)),
    "input_grad": (_fake_input_grad, (0,)),
    "weight_grad": (_fake_weight_grad, ()),
}
for _name, (_fake, _over_batch) in _FAKES.items():
    _library.impl(f"event_{_name}", getattr(event_plain, _name), "CompositeExplicitAutograd")
    _library.impl(f"event_{_name}", functools.partial(_on_cuda, _name), "CUDA")
    torch.library.register_fake(f"neurodyn::event_{_name}", _fake, lib=_library)
    _rule = functools.partial(_batched, getattr(_ops, f"event_{_name}"), _over_batch)
    torch.library.register_vmap(f"neurodyn::event_{_name}", _rule, lib=_library)

# In exported programs: `event_matmul` with its gradient, which the operators above leave to autograd.Functions.
_library.impl("event_product", lambda *args: _ops.event_matmul(*args), "CompositeExplicitAutograd")
torch.library.register_fake("neurodyn::event_product", _fake_matmul, lib=_library)
torch.library.register_autograd(
    "neurodyn::event_product", _Matmul.backward, setup_context=_Matmul.setup_context, lib=_library
)
_library.impl("event_nonzero", lambda x: x.flatten().nonzero().squeeze(1), "CompositeExplicitAutograd")
