"""Optional: the kernels of a chunk called by a loop in C++, without Python between the chunks of a sequence.

`record` is the one way in. Where a chunk does anything besides calling kernels, or a private interface of torch is not
as expected, it says why not, and chunks are called from Python as before.
"""

from .recording import Column, NotRecordable, NotYet, Recording, limited_threads, record

__all__ = ["Column", "NotRecordable", "NotYet", "Recording", "limited_threads", "record"]
