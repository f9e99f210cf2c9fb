"""What is on its way to the outputs of a sparse connection with delays: operators for torch.compile.

A ring ``(*batch, rows, n)`` has a row for each coming step: row ``head`` arrives in this one, row (head + k) % rows k
steps later, and the row before head has arrived and counts as empty. Synapse k of a matrix as in `event` reaches output
``indices[k] % n`` after ``indices[k] // n`` steps::

    deliver    ring' = ring + what the inputs x send     work proportional to the synapses of the non-zero x
    arrived    y = ring[head]

`deliver` gives a new ring. In a compiled loop without gradients it is changed in place, see `neurodyn.engine`, so that
a step takes as long for long delays as for short ones. There are no derivatives: with gradients a connection computes
what is sent as a matrix of all rows.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from ..torch_private import inside_transform
from . import event_plain, native

_MATRIX = "Tensor head, Tensor x, Tensor weight, Tensor indptr, Tensor indices"
_library = torch.library.Library("neurodyn", "FRAGMENT")
_library.define(f"event_deliver(Tensor ring, {_MATRIX}) -> Tensor")
_library.define(f"event_deliver_(Tensor(a!) ring, {_MATRIX}) -> ()")
_library.define("event_arrived(Tensor ring, Tensor head) -> Tensor")
_library.define("event_move_(Tensor(a!) to, Tensor source) -> ()")
_ops = torch.ops.neurodyn


def library() -> ctypes.CDLL:
    """The compiled operators.

    Raises:
        NotAvailable: with the reason.
    """
    return native.load(Path(__file__).with_suffix(".cpp"))


@functools.cache
def _is_available() -> bool:
    """`event.prepare` has said so, if not."""
    try:
        library()
    except native.NotAvailable:
        return False
    return True


def applies(*tensors: Tensor) -> bool:
    """Whether these can be the arguments: on the CPU, and nobody asks for a derivative."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return False
    if torch.compiler.is_compiling() or torch.compiler.is_exporting() or inside_transform() is not False:
        return False
    return all(tensor.device.type == "cpu" for tensor in tensors) and _is_available()


def deliver(ring: Tensor, head: Tensor, x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    """A new ring, with what the inputs ``x`` ``(*batch, n_in)`` send.

    Raises:
        ValueError: sizes that do not fit, or an index out of range, which the message names.
        TypeError: a dtype that does not fit.
    """
    return _ops.event_deliver(ring, head, x, weight, indptr, indices)


def arrived(ring: Tensor, head: Tensor) -> Tensor:
    """What arrives in this step, ``(*batch, n)``.

    Raises:
        ValueError: `head` is no row of the ring.
    """
    return _ops.event_arrived(ring, head)


def _plain(ring: Tensor, head: Tensor, x: Tensor, weight: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
    """`deliver` in plain torch."""
    rows, n = ring.shape[-2:]
    if not 0 <= int(head) < rows:
        raise ValueError(f"event_deliver: head = {int(head)} is none of the {rows} rows of the ring")
    sent = event_plain.matmul(x, weight, indptr, indices, rows * n).unflatten(-1, (rows, n))
    row = torch.arange(rows, device=ring.device)
    kept = torch.where((row == (head - 1) % rows).unsqueeze(-1), 0.0, ring)
    return kept + sent.index_select(-2, (row - head) % rows)


def _plain_in_place(ring: Tensor, *rest: Tensor) -> None:
    ring.copy_(_plain(ring, *rest))


def _plain_row(ring: Tensor, head: Tensor) -> Tensor:
    return ring.index_select(-2, head.view(1)).squeeze(-2)


def _plain_move(to: Tensor, source: Tensor) -> None:
    if to.data_ptr() != source.data_ptr():
        to.copy_(source)


_library.impl("event_deliver", _plain, "CompositeExplicitAutograd")
_library.impl("event_deliver_", _plain_in_place, "CompositeExplicitAutograd")
_library.impl("event_arrived", _plain_row, "CompositeExplicitAutograd")
_library.impl("event_move_", _plain_move, "CompositeExplicitAutograd")
torch.library.register_fake("neurodyn::event_deliver", lambda ring, *_: torch.empty_like(ring), lib=_library)
torch.library.register_fake("neurodyn::event_deliver_", lambda *_: None, lib=_library)
torch.library.register_fake(
    "neurodyn::event_arrived", lambda ring, head: ring.new_empty((*ring.shape[:-2], ring.shape[-1])), lib=_library
)
torch.library.register_fake("neurodyn::event_move_", lambda *_: None, lib=_library)
