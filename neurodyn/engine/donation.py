"""Tensors between two layers, which nobody else reads: the gradient of one may be written in its place."""

from __future__ import annotations

from torch._C import _autograd  # type: ignore[attr-defined]


def are_unseen() -> bool:
    """Whether no hook for saved tensors sees what is saved now."""
    return _autograd._top_saved_tensors_default_hooks(False) is None


def for_the_last_time() -> bool:
    """In a backward pass: whether there can be no other one for the same graph."""
    return not _autograd._get_current_graph_task_keep_graph()
