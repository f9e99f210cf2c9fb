"""What goes wrong in an exchange, and the package that it needs."""

from __future__ import annotations

from typing import Any

from ..tools.extras import needed


class NIRError(ValueError):
    """A network that NIR cannot represent, or a file that cannot be read; the message names the node."""


def package() -> Any:
    """The package ``nir``."""
    return needed("nir", "nir", "NIR")
