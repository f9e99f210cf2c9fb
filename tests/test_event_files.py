"""`nd.data.frames` beside tonic's own transform, and HDF5 files of the SHD format."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import neurodyn as nd
from neurodyn import units as u

h5py = pytest.importorskip("h5py")

TONIC = dict(np.load(Path(__file__).parent / "reference" / "tonic.npz"))  # by reference/make_tonic.py
CAMERA = (TONIC["camera_p"], TONIC["camera_y"], TONIC["camera_x"])


@pytest.mark.parametrize("window", [1000, 300])
def test_a_camera_as_tonic_reads_it(window: int) -> None:
    wanted = TONIC[f"camera_{window}"]
    assert wanted.max() > 1  # several events in a bin
    options = {"dt": window * u.us, "steps": len(wanted), "dtype": torch.float64}
    found = nd.data.frames(TONIC["camera_t"] * u.us, CAMERA, (2, 9, 12), **options)
    assert np.array_equal(found.numpy(), wanted)
    mixed = np.random.default_rng(1).permutation(len(TONIC["camera_t"]))
    again = nd.data.frames(
        torch.as_tensor(TONIC["camera_t"][mixed] / 1000) * u.ms, tuple(a[mixed] for a in CAMERA), (2, 9, 12), **options
    )
    assert torch.equal(again, found)


def test_steps_start_and_nothing() -> None:
    late = nd.data.frames([5.0, 5.3, 7.999] * u.ms, [0, 0, 1], 2, start=5 * u.ms)
    assert late.tolist() == [[2, 0], [0, 0], [0, 1]]
    assert nd.data.frames([0, 900] * u.us, [0, 1], 2, steps=4).sum(1).tolist() == [2, 0, 0, 0]
    assert nd.data.frames([] * u.us, np.zeros(0), 2, steps=3).tolist() == [[0, 0]] * 3
    assert nd.data.frames([] * u.us, [], 2).shape == (0, 2)


def test_decimal_times_lie_in_their_own_bins() -> None:
    times = np.arange(1000) / 10  # ms, of which many are just below the product of k and 0.1
    assert nd.data.frames(times * u.ms, [0] * 1000, 1, dt=0.1 * u.ms).flatten().tolist() == [1.0] * 1000


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: nd.data.frames([1, 2], [0, 0], 2), TypeError, "times needs a unit of time"),
        (lambda: nd.data.frames([1, 2] * u.mV, [0, 0], 2), Exception, "times, got"),
        (lambda: nd.data.frames([1, 2] * u.ms, [0], 2), ValueError, "does not broadcast|there are 1 places"),
        (lambda: nd.data.frames(1 * u.ms, [0, 0], 2), ValueError, r"2 places and times of shape \(\)"),
        (lambda: nd.data.frames([1, 2] * u.ms, [0, 2], 2), ValueError, "event 1 is at 2 on axis 0, whose size is 2"),
        (lambda: nd.data.frames([1] * u.ms, [-1], 2), ValueError, "event 0 is at -1"),
        (lambda: nd.data.frames([1] * u.ms, [0.5], 2), TypeError, "must be ints, got float64"),
        (lambda: nd.data.frames([1] * u.ms, [0], (2, 2)), ValueError, r"need 2 arrays .* \(2, 2\)"),
        (lambda: nd.data.frames([3, 1] * u.ms, [0, 0], 2, start=2 * u.ms), ValueError, "event 1 comes 1 ms before"),
    ],
)
def test_what_is_wrong_is_named(call, error, words: str) -> None:
    with pytest.raises(error, match=words):
        call()


def written(path: Path, rows: int = 3, **without: object) -> Path:
    """A file as SHD has it: the first recording is tonic's, the second has half of its events, the third none."""
    rows_of = {
        "spikes/times": (h5py.vlen_dtype(np.float16), "shd_times"),
        "spikes/units": (h5py.vlen_dtype(np.uint16), "shd_units"),
    }
    with h5py.File(path, "w") as file:
        for name, (dtype, source) in rows_of.items():
            data = file.create_dataset(name, (rows,), dtype=dtype)
            for i in range(2):
                data[i] = TONIC[source][:: i + 1]
        file["labels"] = np.arange(rows, dtype=np.uint16)[: without.get("labels", rows)]
    return path


def test_a_file_of_the_shd_format(tmp_path: Path) -> None:
    dataset = nd.data.EventFile(written(tmp_path / "x.h5"), 50, steps=200, dt=4 * u.ms)
    x, label = dataset[0]
    assert np.array_equal(x.numpy(), TONIC["shd_4000"])
    assert (len(dataset), int(label), x.dtype) == (3, 0, torch.get_default_dtype())
    assert dataset[2][0].count_nonzero() == 0  # without events
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1][0], dataset[1][0])


def test_batches_from_workers(tmp_path: Path) -> None:
    dataset = nd.data.EventFile(written(tmp_path / "x.h5"), 50, steps=100, dt=4 * u.ms)
    loader = torch.utils.data.DataLoader(dataset, batch_size=3, num_workers=1)
    ((x, labels),) = list(loader)
    assert x.shape == (3, 100, 50)
    assert torch.equal(x[1], dataset[1][0])
    assert labels.tolist() == [0, 1, 2]
    ys = nd.unroll(nd.LIF(50, dt=4 * u.ms), x.transpose(0, 1), compile=False)
    assert ys.shape == (100, 3, 50)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    path = written(tmp_path / "x.h5")
    with pytest.raises(ValueError, match=r"x\.h5 has no 'events/t'; it has labels, spikes"):
        nd.data.EventFile(path, 50, steps=10, times="events/t")
    with pytest.raises(ValueError, match=r"have \[3, 3, 2\] rows"):
        nd.data.EventFile(written(tmp_path / "y.h5", labels=2), 50, steps=10)
    with pytest.raises(FileNotFoundError):
        nd.data.EventFile(tmp_path / "z.h5", 50, steps=10)
    with pytest.raises(ValueError, match="whose size is 20"):
        nd.data.EventFile(path, 20, steps=10)[0]
