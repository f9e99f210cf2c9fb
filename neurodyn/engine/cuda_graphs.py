"""Functions of tensors on an NVIDIA GPU as CUDA graphs: hundreds of small kernels for the price of one launch.

A graph is captured when a function is called for the second time with tensors of the same kinds. Arguments are copied
to where the kernels read them, and results from where they were written, so that a call depends on its arguments alone.
There is no graph where copies would cost more than launches, and in the middle of a capture by the user.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..torch_private import copy_all, tree_flatten, tree_unflatten

_LAUNCHES = 4  # fewer are not worth a graph
_PER_LAUNCH = 2**24  # bytes of arguments and results for each of them: copies of more take longer than a launch
_MOST = 2**28  # bytes of all arguments and results
_IN_PLACE = 2**22  # bytes of a constant from which on it is read where it is
_KEPT = 16  # graphs
_BYTES = 2**30  # of the arguments and results of all graphs

_graphs: OrderedDict[Hashable, _Graph | None] = OrderedDict()
_refused: set[Hashable] = set()  # kinds of which a capture has failed
_lock = threading.RLock()


def is_worth(launches: int, changing: Sequence[Tensor], results: int) -> bool:
    """Whether a call with so many launches of kernels belongs in a graph.

    Args:
        launches: about.
        changing: arguments that are no constants.
        results: bytes of the results.
    """
    if launches < _LAUNCHES or changing[0].device.type != "cuda":
        return False
    return sum(tensor.nbytes for tensor in changing) + results <= min(launches * _PER_LAUNCH, _MOST)


def in_a_graph(
    function: Callable[..., Any], kind: Hashable, changing: Sequence[Tensor], constant: Sequence[Tensor]
) -> Any:
    """What ``function(changing, constant)`` returns, from a graph; None if it has to be called.

    Args:
        function: launches kernels on the device of its tensors and waits for nothing.
        kind: what it depends on besides its tensors.
        changing, constant: its tensors; large constants are expected to stay where they are.
    """
    tensors, device = [*changing, *constant], changing[0].device
    if kind in _refused or torch.cuda.is_current_stream_capturing() or any(t.device != device for t in tensors):
        return None
    stream, in_place = torch.cuda.current_stream(device), [t for t in constant if _stays(t)]
    places, precision = tuple(tensor.data_ptr() for tensor in in_place), torch.get_float32_matmul_precision()
    key = kind, stream, places, precision, tuple((tensor.shape, tensor.dtype) for tensor in tensors)
    with _lock:  # from the copies to the results, no other thread may use the graph
        if key not in _graphs:
            _graphs[key] = None
            _drop()
            return None
        _graphs.move_to_end(key)
        if (graph := _graphs[key]) is None:
            try:
                graph = _graphs[key] = _Graph(function, changing, constant, stream)
            except RuntimeError as error:  # an operator that waits; what else is wrong shows in the ordinary call
                if isinstance(error, torch.OutOfMemoryError):
                    _graphs.clear()
                _graphs.pop(key, None)
                _refused.add(kind)
                return None
            _drop()
        return graph(tensors)


def _drop() -> None:
    """Keep the graphs that were used last, and the keys of as many calls that had none."""
    graphs, misses, total = 0, 0, 0
    for key, graph in reversed(list(_graphs.items())):
        if graph is None:
            misses += 1
        else:
            graphs, total = graphs + 1, total + graph.bytes
        too_many = graphs > 1 and (graphs > _KEPT or total > _BYTES)
        if (graph is None and misses > _KEPT) or (graph is not None and too_many):
            del _graphs[key]


class _Graph:
    """A captured call."""

    def __init__(
        self,
        function: Callable[..., Any],
        changing: Sequence[Tensor],
        constant: Sequence[Tensor],
        stream: torch.cuda.Stream,
    ):
        side = torch.cuda.Stream(stream.device)
        with torch.cuda.device(stream.device), torch.inference_mode(False), torch.no_grad():
            changing = [tensor.clone() for tensor in changing]
            constant = [tensor if _stays(tensor) else tensor.clone() for tensor in constant]
            # Those in place are not held: as long as there is a tensor where one was, it is read.
            self.copies = [*changing, *(None if _stays(tensor) else tensor for tensor in constant)]
            side.wait_stream(stream)
            with torch.cuda.stream(side):
                function(changing, constant)  # what is loaded at a first launch is not loaded in the capture
            stream.wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                results = function(changing, constant)
        self.results, self.spec = tree_flatten(results)
        self.outputs = [value for value in self.results if isinstance(value, Tensor)]
        self.bytes = sum(tensor.nbytes for tensor in (*self.copies, *self.outputs) if tensor is not None)

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        _copy([(own, given) for own, given in zip(self.copies, tensors, strict=True) if own is not None])
        self.graph.replay()
        fresh = [torch.empty_like(value) for value in self.outputs]
        _copy(list(zip(fresh, self.outputs, strict=True)))
        given = iter(fresh)
        values = [next(given) if isinstance(value, Tensor) else value for value in self.results]
        return tree_unflatten(values, self.spec)


def _stays(constant: Tensor) -> bool:
    """Whether a constant is read where it is."""
    return constant.nbytes >= _IN_PLACE


def _copy(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """The second tensor of each pair to the first, with one launch for each dtype."""
    alike: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for to, source in pairs:
        if to.numel():
            tos, sources = alike.setdefault(to.dtype, ([], []))
            tos.append(to)
            sources.append(source)
    with torch.no_grad():
        for tos, sources in alike.values():
            copy_all(tos, sources)
