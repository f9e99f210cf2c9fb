"""Why a loop is not compiled, as an exception inside the engine and as a warning to the user."""

from __future__ import annotations


class NotCompilable(RuntimeError):
    """A module cannot run as a compiled program, for the reason given."""


class BatchSpecialised(Exception):
    """A trace holds for one batch size only."""


class EagerWarning(UserWarning):
    """A time loop runs step by step in Python, for the reason that the message gives."""
