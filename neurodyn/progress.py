"""Progress bars, where someone watches: in a terminal or a notebook, if tqdm is installed (the extra ``progress``)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any


class Quiet:
    """A bar that shows nothing."""

    def update(self, n: int = 1) -> None:
        """Take note of `n` steps."""

    def set_postfix(self, **values: Any) -> None:
        """Take note of values to show."""


@contextlib.contextmanager
def bar(
    total: int, *, wanted: bool = True, unit: str = " steps", initial: int = 0, after: float = 0.0
) -> Iterator[Any]:
    """A bar with steps per second and the time left; call its ``update(n)``.

    Args:
        total: number of steps.
        wanted: False shows nothing, as does an output that is no terminal.
        unit: what a step is called.
        initial: steps that were done before.
        after: seconds before it appears; such a bar is wiped out at the end.
    """
    with contextlib.ExitStack() as stack:
        made: Any = Quiet()
        if wanted:
            with contextlib.suppress(ImportError), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tqdm's own, in a notebook without widgets
                from tqdm.auto import tqdm

                options = {"unit": unit, "unit_scale": True, "dynamic_ncols": True, "disable": None}
                made = tqdm(total=total, initial=initial, delay=after, leave=not after, **options)
                stack.callback(made.close)
        yield made
