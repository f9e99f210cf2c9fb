"""Why a loop is not compiled: as an exception inside the engine, and as a warning to the user."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from .user_warning import warn_user

_log = logging.getLogger("neurodyn")
_said: set[str] = set()


class NotCompilable(RuntimeError):
    """A module cannot run as a compiled program, for the reason given."""


class EagerWarning(UserWarning):
    """A time loop runs step by step in Python, for the reason that the message gives."""


def warn_once(message: str) -> None:
    """Say that something runs step by step, once for each message, at the line of the user."""
    if message not in _said:
        _said.add(message)
        warn_user(message, EagerWarning)


def log_once(message: str) -> None:
    """Note that a faster path is lost, once for each message, in the log "neurodyn"."""
    if message not in _said:
        _said.add(message)
        _log.info(message)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Inside, nothing is said of how a copy runs, nor noted as said."""
    before = set(_said)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _said.intersection_update(before)
