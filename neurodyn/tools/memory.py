"""Memory of large tensors: fresh ones lie in huge pages, and freed ones are given back."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable

from torch import Tensor

_ADVICE = 14  # MADV_HUGEPAGE
_PAGE = 4096
#: From here on glibc maps memory anew for every tensor.
LARGE = 2**25
_HUGE = 2**22
#: Freed memory is given back, which takes time, when so many bytes of input have been worked on.
_SLAB = 2**26

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_madvise, _trim = getattr(_libc, "madvise", None), getattr(_libc, "malloc_trim", None)


def huge(tensor: Tensor) -> Tensor:
    """`tensor`, which nobody has written to yet; Linux is asked for huge pages if it is large and on the CPU.

    Of the time that a loop needs, mapping small pages can be the larger half.
    """
    if _madvise is not None and tensor.device.type == "cpu" and tensor.nbytes >= _HUGE:
        start = -(-tensor.data_ptr() // _PAGE) * _PAGE
        length = (tensor.data_ptr() + tensor.nbytes - start) // _PAGE * _PAGE
        _madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _ADVICE)
    return tensor


class GiveBack:
    """Gives freed memory back now and then: glibc keeps it where a small tensor lies in between, and takes more."""

    def __init__(self) -> None:
        self.bytes = 0

    def before(self, work: Iterable[Tensor]) -> None:
        """To be called before each piece of work, with its input."""
        self.bytes += sum(tensor.nbytes for tensor in work if tensor.device.type == "cpu")
        if _trim is not None and self.bytes >= _SLAB:
            self.bytes = 0
            _trim(ctypes.c_size_t(0))
