"""Checkpoints of a training run: one safetensors file per epoch, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

FORMAT = "neurodyn-training-1"


def save(path: Path, net: nn.Module, optimizer: Optimizer, scheduler: LRScheduler, record: dict[str, Any]) -> None:
    """Write parameters, optimizer, scheduler and `record` (plain JSON) to `path`, atomically."""
    from safetensors.torch import save_file

    tensors = {f"net.{key}": value.contiguous() for key, value in net.state_dict().items()}
    states = optimizer.state_dict()
    for index, state in states["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value.contiguous() for key, value in state.items()}
    header = {"groups": states["param_groups"], "scheduler": scheduler.state_dict(), "record": record}
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"format": FORMAT, "header": json.dumps(header)})
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def load(path: Path, net: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> dict[str, Any]:
    """Restore what `save` wrote and return its record.

    Raises:
        ValueError: the file is damaged, or no checkpoint of this version.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable checkpoint: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} has the format {metadata.get('format')!r}, wanted {FORMAT!r}")
    header = json.loads(metadata["header"])
    state: dict[int, dict[str, Any]] = {}
    for key in [key for key in tensors if key.startswith("optimizer.")]:
        _, index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensors.pop(key)
    net.load_state_dict({key.removeprefix("net."): value for key, value in tensors.items()})
    optimizer.load_state_dict({"state": state, "param_groups": header["groups"]})
    scheduler.load_state_dict(header["scheduler"])
    return header["record"]
