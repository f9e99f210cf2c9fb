"""Training with each process on its part of the batch: torch's DDP and FSDP2, set up for networks with states."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer


def ddp(net: nn.Module, **options: Any) -> DistributedDataParallel:
    """``DistributedDataParallel(net, **options)``, with what is to be checked before.

    The hidden states stay in their process: DDP sends the buffers of process 0 to all others in each forward pass, and
    states are not among ``net.buffers()``. `net` takes whole sequences: ``nd.Unroll(layers)``, or a module that calls
    ``nd.unroll`` in its forward.

    Raises:
        RuntimeError: torch.distributed is not initialised.
    """
    _check_initialised("ddp")
    return DistributedDataParallel(net, **options)


def fsdp(net: nn.Module, **options: Any) -> nn.Module:
    """FSDP2's ``fully_shard(net, **options)``, with the parameters of process 0; returns `net`.

    fully_shard takes no scalar parameters, such as one learned time constant of a whole layer. They stay whole in every
    process, and their gradients are averaged. As for `ddp`, `net` takes whole sequences; for a deep network call it on
    the blocks first and on the whole last, each an ``nd.Unroll``. Make the optimizer afterwards.

    Raises:
        RuntimeError: torch.distributed is not initialised.
    """
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    _check_initialised("fsdp")
    for value in (*net.parameters(), *net.buffers()):
        if not isinstance(value, DTensor):
            dist.broadcast(value.detach(), 0)
    scalars = {p for p in net.parameters() if p.dim() == 0}
    ignored = scalars | set(options.pop("ignored_params", None) or ())
    for scalar in scalars:
        if scalar.requires_grad and not scalar._post_accumulate_grad_hooks:
            scalar.register_post_accumulate_grad_hook(_average)
    return fully_shard(net, ignored_params=ignored, **options)  # type: ignore[return-value]


def full_state(net: nn.Module, *optimizers: Optimizer) -> dict[str, Any]:
    """The whole of a sharded network and its optimizers in process 0, for ``nd.save``; call it in all processes.

    The others get empty dicts.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    of_net, of_optimizers = get_state_dict(net, optimizers, options=options)
    return {"net": dict(of_net), "optimizer": dict(of_optimizers)}


def set_full_state(net: nn.Module, *optimizers: Optimizer, state: dict[str, Any]) -> None:
    """Give every process its share of a state from `full_state`, read with ``nd.load`` in all processes."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    options = StateDictOptions(full_state_dict=True)
    parts = {"model_state_dict": state["net"], "optim_state_dict": state["optimizer"]}
    set_state_dict(net, optimizers, **parts, options=options)


def _average(parameter: Tensor) -> None:
    assert parameter.grad is not None
    dist.all_reduce(parameter.grad)
    parameter.grad /= dist.get_world_size()


def _check_initialised(name: str) -> None:
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            f"nd.distributed.{name}: torch.distributed is not initialised; call "
            'torch.distributed.init_process_group("gloo") ("nccl" with GPUs) first, and start the script with '
            "torchrun --standalone --nproc-per-node 2 script.py"
        )
