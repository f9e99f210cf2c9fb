"""`save` and `load`: safetensors files with a versioned header and a checksum, written whole or not at all."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Never

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .tools.extras import needed

FORMAT, VERSION = "neurodyn", 1


class CheckpointError(ValueError):
    """A file is no checkpoint, is damaged or newer than this neurodyn, or does not fit what it is loaded into."""


def save(path: str | Path, *unnamed: Never, **parts: Any) -> None:
    """Write named parts to one safetensors file, atomically.

    A part is anything with a ``state_dict()`` (a network, an optimizer, a scheduler), or a tree of dicts, lists and
    tuples with tensors, numbers, strings and None. Hidden states are saved on purpose, as a part of their own:
    ``states=nd.get_states(net)``. Nothing is pickled.

    Raises:
        TypeError: a part without a name, or one that holds something else; the message says where.
        OSError: the file cannot be written: no such folder, no permission, a full disk, ...; what was there stays.
        ModuleNotFoundError: without safetensors (``pip install 'neurodyn[save]'``).

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.safetensors"
        >>> net = nd.LIF(2, learn="tau")
        >>> nd.save(path, net=net, step=7, metrics={"loss": [0.5, 0.25]})
        >>> nd.load(path, net=net)["metrics"]
        {'loss': [0.5, 0.25]}
    """
    _check_named("save", path, unnamed)
    needed("safetensors", "save", "save")
    tensors: dict[str, Tensor] = {}
    trees = {name: _state_dict(part) if hasattr(part, "state_dict") else part for name, part in parts.items()}
    tree = json.dumps({name: _encode(part, name, tensors) for name, part in trees.items()})
    metadata = {"format": FORMAT, "version": str(VERSION), "tree": tree, "sha256": _digest(tree, tensors)}
    _write(Path(path), tensors, metadata)


def _check_named(caller: str, path: Any, unnamed: tuple[Any, ...]) -> None:
    """Refuse a call as of ``torch.save(net, path)``: the path comes first, and each part has a name."""
    if isinstance(path, (str, os.PathLike)) and not unnamed:
        return
    given = next((part for part in (path, *unnamed) if not isinstance(part, (str, os.PathLike))), None)
    example = f"nd.{caller}(path, net=net, optimizer=optimizer)"
    what = "no name" if given is None else f"{type(given).__name__} without a name"
    raise TypeError(f"{caller}: the path comes first, and each part has a name, got {what}; write {example}")


def load(path: str | Path, *unnamed: Never, **targets: Any) -> dict[str, Any]:
    """Read a file that `save` wrote, restore the parts named in `targets`, and return all parts.

    ``nd.load(path, net=net, optimizer=optimizer)`` calls ``load_state_dict`` on both. The file is read and checked
    first; when one target does not take its part, none is changed. Returned tensors are on the CPU.

    Raises:
        CheckpointError: not such a file, a damaged one, one of a newer version, or one that does not fit.
        OSError: no such file, or one that may not be read.
        TypeError: a target without a name, or without ``load_state_dict``.
    """
    _check_named("load", path, unnamed)
    for name, target in targets.items():
        if not (hasattr(target, "state_dict") and hasattr(target, "load_state_dict")):
            raise TypeError(
                f"load: {name} is a {type(target).__name__}, wanted something with load_state_dict, such as a network; "
                f"other parts are returned: nd.load(path)[{name!r}]"
            )
    tree, tensors = _read(Path(path))
    try:
        parts = {name: _decode(part, tensors) for name, part in tree.items()}
    except Exception as error:
        raise CheckpointError(f"{path} holds a tree that cannot be read: {_short(error)}") from error
    for name in targets:
        if name not in parts:
            raise CheckpointError(f"{path} has no part {name!r}; it has {_short(', '.join(parts) or 'none')}")
    before = {name: copy.deepcopy(target.state_dict()) for name, target in targets.items()}
    try:
        for name, target in targets.items():
            _check_layout(target, parts[name])
            target.load_state_dict(copy.copy(parts[name]))
    except Exception as error:
        for done, target in targets.items():
            target.load_state_dict(before[done])
        raise CheckpointError(f"{path}: the part {name!r} does not fit, nothing was loaded: {_short(error)}") from error
    return parts


def _state_dict(part: Any) -> Any:
    found = part.state_dict()
    return dict(found) if isinstance(found, Mapping) else found


def _check_layout(target: Any, part: Any) -> None:
    """Refuse values of other dtypes, which a module would convert silently; it checks names and shapes itself."""
    if isinstance(target, nn.Module):
        for key, value in target.state_dict().items():
            if isinstance(value, Tensor) and key in part and part[key].dtype != value.dtype:
                raise TypeError(f"{key} is {part[key].dtype} in the file and {value.dtype} in {type(target).__name__}")


def _encode(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON, with each tensor replaced by its name in `tensors`."""
    if value is None or type(value) in (bool, int, float, str):
        if isinstance(value, int) and value.bit_length() > 8 * 1024:
            raise TypeError(f"save: {where} is an int of {value.bit_length()} bits, wanted at most {8 * 1024}")
        return value
    if isinstance(value, Tensor):
        if is_lazy(value):
            raise TypeError(f"save: {where} gets its values in the first call; call the network once before")
        if type(value) not in (Tensor, nn.Parameter) or value.layout != torch.strided or value.is_meta:
            raise TypeError(
                f"save: {where} is a {type(value).__name__} ({value.layout}, {value.device}); wanted plain tensors. "
                "Gather those of a sharded network first: nd.distributed.full_state(net)"
            )
        where = where.encode(errors="backslashreplace").decode()  # a name in the file is valid UTF-8
        while where in tensors:
            where += "'"
        tensors[where] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": where}
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"save: {where} has the key {key!r}; wanted strings and ints")
        return {"dict": [[key, _encode(item, f"{where}.{key}", tensors)] for key, item in value.items()]}
    if type(value) in (list, tuple):
        items = [_encode(item, f"{where}.{i}", tensors) for i, item in enumerate(value)]
        return {type(value).__name__: items}
    raise TypeError(f"save: {where} is a {type(value).__name__}; wanted tensors, numbers, strings, dicts, lists")


def _decode(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _decode(item, tensors) for key, item in content}
    return {"list": list, "tuple": tuple}[kind](_decode(item, tensors) for item in content)


def _digest(tree: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of everything that `load` returns."""
    digest = hashlib.sha256(tree.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file beside `path`, then give it that name, so that there is the old file or the whole new one."""
    safetensors = needed("safetensors", "save", "save")
    save_file = needed("safetensors.torch", "save", "save").save_file
    if os.path.isdir(path):
        raise IsADirectoryError(f"save: {path} is a folder; give the name of a file in it")
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(f"save: the folder of {path} does not exist; make it first, or give another path")
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            save_file(tensors, unfinished, metadata=metadata)
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, path.resolve())  # a link stays a link
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _kind(error)(
            f"save: {path} cannot be written ({error}), and what was there before is unchanged; check that the folder "
            "may be written to and that the disk is not full, or give another path"
        ) from error


def _short(said: Any, most: int = 1000) -> str:
    """What an error says; a hostile file may make it say a lot."""
    text = repr(said) if isinstance(said, KeyError) else str(said)  # which says a name only
    return text if len(text) <= most else f"{text[:most]}..."


def _kind(error: Exception) -> type[OSError]:
    return type(error) if isinstance(error, OSError) else OSError


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    needed("safetensors", "save", "load")
    if os.path.exists(path) and not os.path.isfile(path):
        raise IsADirectoryError(f"load: {path} is no file; give the name of the file that nd.save wrote")
    try:
        path.open("rb").close()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"load: there is no file {path}; check the path") from error
    except (OSError, ValueError) as error:
        raise _kind(error)(f"load: {path} cannot be read ({error}); check the path and its permissions") from error
    try:
        metadata, tensors = _contents(path)
        tree = metadata.get("tree", "")
        if _digest(tree, tensors) != metadata.get("sha256"):
            raise CheckpointError(f"{path} is damaged: its contents are not those that were written; use another copy")
    except CheckpointError:
        raise
    except Exception as error:  # of safetensors and torch, which raise whatever they stumble upon
        raise CheckpointError(
            f"{path} is not a readable checkpoint, it is no file of nd.save or a damaged one: {_short(error)}"
        ) from error
    try:
        found = json.loads(tree)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} holds no readable tree: {_short(error)}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds no parts")
    return found, tensors


def _contents(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file, in memory of their own: a file that changes later changes nothing."""
    safetensors = needed("safetensors", "save", "load")
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        version = metadata.get("version", "")
        if metadata.get("format") != FORMAT or not (version.isascii() and version.isdecimal()):
            raise CheckpointError(f"{path} is a safetensors file, but none that nd.save wrote")
        if len(version) > 9 or int(version) > VERSION:
            short = version if len(version) <= 9 else f"{version[:9]}... ({len(version)} digits)"
            raise CheckpointError(
                f"{path} has version {short} and this neurodyn reads up to {VERSION}; update neurodyn"
            )
        return metadata, {key: file.get_tensor(key).clone() for key in file.keys()}
