"""The values that options of the command line take: each is checked when it is read, before any work."""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LONGEST = 1e6  # s, of a simulation


class Wrong(Exception):
    """An option whose value does not go together with the others, or with this machine."""

    def __init__(self, option: str, text: str):
        super().__init__(f"argument {option}: {text}")


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number in a range."""

    def read(text: str) -> int:
        with contextlib.suppress(ValueError):
            if len(text) < 30 and least <= int(text) <= most:
                return int(text)
        raise ArgumentTypeError(f"{_cut(text)} is no whole number from {least} to {most}")

    return read


def number(least: float, most: float) -> Callable[[str], float]:
    """A number in a range."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            if least <= float(text) <= most:
                return float(text)
        raise ArgumentTypeError(f"{_cut(text)} is no number from {least:g} to {most:g}")

    return read


def duration(text: str) -> Any:
    """A time with its unit, of whole steps of the example networks."""
    import pint

    from .. import units as u
    from ..examples import DT

    parts = re.fullmatch(r"\s*([-+]?[\d.]+(?:e[-+]?\d{1,3})?)\s*([a-zµμ]+)\s*", text, re.ASCII | re.IGNORECASE)
    try:
        time: Any = u.registry.Quantity(float(parts[1]), parts[2])  # type: ignore[index]
        ms = float(time.to("ms").magnitude)
    except (pint.PintError, TypeError, ValueError, AttributeError, OverflowError):
        raise ArgumentTypeError(f"{_cut(text)} is no time with a unit, such as 500ms or 2s") from None
    step = float(u.to_canonical(DT))  # type: ignore[arg-type]
    if not (math.isfinite(ms) and ms > 0 and abs(ms / step - round(ms / step)) <= 1e-6 * ms / step):
        raise ArgumentTypeError(f"{_cut(text)} is no positive multiple of the time step, {step:g} ms")
    if ms > LONGEST * 1e3:
        raise ArgumentTypeError(f"{_cut(text)} is longer than {LONGEST:g} s")
    return time


def device(text: str) -> str:
    """A device of torch that this machine has and that holds data."""
    import torch

    try:
        if torch.zeros(1, device=text).item() == 0:
            found = torch.device(text)
            if found.type == "cpu" and found.index:  # torch takes any number for the one that there is
                raise ValueError("there is one cpu, without a number")
            return text
    except Exception as error:  # each back end raises what it likes
        raise ArgumentTypeError(
            f"torch cannot use {_cut(text)} here ({_first_line(error)}); take cpu, or what neurodyn info lists"
        ) from None
    raise ArgumentTypeError(f"{_cut(text)} holds no data")


def folder(text: str) -> Path:
    """A folder that is there and may be written to, or that can be made."""
    path = _path(text)
    with _readable(text):
        nearest = path
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            raise ArgumentTypeError(f"{_cut(text)} cannot be a folder, as {nearest} is a file")
        _check_takes_files(nearest, text)
    return path


def picture(text: str) -> Path:
    """A file for a picture, in a folder that is there; without a suffix it gets .png."""
    path = _file(text, ".png")
    kinds = _kinds()
    if kinds and path.suffix[1:].lower() not in kinds:
        raise ArgumentTypeError(f"{_cut(text)}: no picture is called {path.suffix}; there are {', '.join(kinds)}")
    return path


def spike_file(text: str) -> Path:
    """A file for spikes, .npz or .csv, in a folder that is there; without a suffix it gets .npz."""
    path = _file(text, ".npz")
    if path.suffix not in (".npz", ".csv"):
        raise ArgumentTypeError(f"{_cut(text)}: spikes are written to .npz or .csv, not to {path.suffix}")
    return path


def _file(text: str, suffix: str) -> Path:
    path = _path(text)
    with _readable(text):
        if path.is_dir() or text.endswith(("/", os.sep)):
            raise ArgumentTypeError(f"{_cut(text)} is a folder; give the name of a file in it")
        path = path if path.suffix else path.with_name(f"{path.name}{suffix}")
        if path.is_dir():
            raise ArgumentTypeError(f"{_cut(str(path))} is a folder; give another name")
        if not path.parent.is_dir():
            raise ArgumentTypeError(f"{_cut(text)}: there is no folder {path.parent}; make it first")
        if not path.exists():
            _check_takes_files(path.parent, text)
        elif not os.access(path, os.W_OK):
            raise ArgumentTypeError(f"{_cut(text)} cannot be written, as it may not be written to")
    return path


def _check_takes_files(place: Path, text: str) -> None:
    """Refuse a folder in which no file can be made, found by trying: some, as /proc, only say that one can."""
    try:
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        raise ArgumentTypeError(
            f"{_cut(text)} cannot be written, as {place} takes no files ({error.strerror or error})"
        ) from None


def _kinds() -> list[str]:
    """What matplotlib can write; nothing if it is not installed."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ModuleNotFoundError:
        return []
    return sorted(FigureCanvasBase.get_supported_filetypes())


def _path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ArgumentTypeError(f"{_cut(text)} is no path")
    return Path(text)


@contextlib.contextmanager
def _readable(text: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise ArgumentTypeError(f"{_cut(text)} cannot be used: {error.strerror or error}") from None


def _cut(text: str) -> str:
    return repr(text) if len(text) <= 80 else f"{text[:80]!r}..."


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
