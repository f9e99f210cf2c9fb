"""Records tests/reference/tonic.npz: frames of tonic 1.7.0's own transform, for events with several in a bin.

pip install tonic==1.7.0 && python tests/reference/make_tonic.py
"""

from pathlib import Path

import numpy as np
from tonic.datasets.hsd import HSD
from tonic.io import make_structured_array
from tonic.transforms import ToFrame

random, arrays = np.random.default_rng(0), {}

# a camera: microseconds, two polarities, 9 rows, 12 columns
n, dtype = 3000, np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", bool)])
t = np.sort(random.integers(0, 20_000, n))
events = make_structured_array(
    random.integers(0, 12, n), random.integers(0, 9, n), t, random.integers(0, 2, n), dtype=dtype
)
for window in (1000, 300):
    transform = ToFrame((12, 9, 2), time_window=window, start_time=0, end_time=18_000)
    arrays[f"camera_{window}"] = transform(events)
arrays |= {f"camera_{name}": events[name] for name in ("x", "y", "t", "p")}

# a recording as in SHD: seconds in half precision, 50 channels
seconds = np.sort(random.uniform(0, 0.9, 2000)).astype(np.float16)
units = random.integers(0, 50, 2000).astype(np.uint16)
heard = make_structured_array(seconds.astype(np.float64) * 1e6, units, 1, dtype=HSD.dtype)
transform = ToFrame((50, 1, 1), time_window=4000, start_time=0, end_time=800_000)
arrays |= {"shd_times": seconds, "shd_units": units, "shd_4000": transform(heard)[:, 0]}

np.savez_compressed(Path(__file__).with_name("tonic.npz"), **arrays)
print({name: value.shape for name, value in arrays.items()}, arrays["camera_1000"].max())
