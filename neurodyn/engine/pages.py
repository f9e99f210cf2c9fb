"""Large fresh tensors in huge pages: of the time that a loop needs, mapping small ones can be the larger half."""

from __future__ import annotations

import ctypes
import sys

from torch import Tensor

_ADVICE = 14  # MADV_HUGEPAGE
_PAGE = 4096
#: From here on glibc maps memory anew for every tensor.
_LARGE = 2**25

_madvise = getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None


def huge(tensor: Tensor) -> Tensor:
    """`tensor`, which nobody has written to yet; Linux is asked for huge pages if it is large and on the CPU."""
    if _madvise is not None and tensor.device.type == "cpu" and tensor.nbytes >= _LARGE:
        start = -(-tensor.data_ptr() // _PAGE) * _PAGE
        length = (tensor.data_ptr() + tensor.nbytes - start) // _PAGE * _PAGE
        _madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _ADVICE)
    return tensor
