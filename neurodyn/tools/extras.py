"""Optional dependencies: imported where they are used, with an error that says how to install them."""

from __future__ import annotations

import importlib
from typing import Any


class MissingExtra(ModuleNotFoundError):
    """A package that is not installed, and the extra that brings it."""


def needed(module: str, extra: str, by: str) -> Any:
    """The imported `module` of the extra `extra`.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise MissingExtra(f"{by} needs {package}: pip install 'neurodyn[{extra}]'", name=package) from error
