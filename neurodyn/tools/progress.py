"""What a terminal or a notebook shows of long work: progress bars, and a line while something is compiled.

Bars need tqdm (the extra ``progress``).
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

_QUIET_FOR = 60.0  # seconds after a line about compiling
_last_line = -_QUIET_FOR


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
        if wanted and _is_watched():  # which tqdm asks too, later and in a hundred times as long
            with contextlib.suppress(ImportError), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tqdm's own, in a notebook without widgets
                from tqdm.auto import tqdm

                options = {"unit": unit, "unit_scale": total >= 10_000, "dynamic_ncols": True, "disable": None}
                made = tqdm(total=total, initial=initial, delay=after, leave=not after, **options)
                stack.callback(made.close)
        yield made


@contextlib.contextmanager
def compiling(after: float = 2.0) -> Iterator[None]:
    """Inside, a terminal or a notebook shows one line when `after` seconds are over; at most one a minute."""
    if not _is_watched():
        yield
        return
    timer = threading.Timer(after, _say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _is_watched() -> bool:
    return _in_notebook() or (hasattr(sys.stderr, "isatty") and sys.stderr.isatty())


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _say() -> None:
    global _last_line
    if time.monotonic() - _last_line >= _QUIET_FOR:
        _last_line = time.monotonic()
        stream = sys.stdout if _in_notebook() else sys.stderr  # what is written to stderr looks like an error there
        print("neurodyn compiles the time loop, once for each kind of layer; later runs find it", file=stream)
