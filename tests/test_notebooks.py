"""Every notebook runs from the top without an error or a warning, and its stored outputs are complete and small."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from notebook import FOLDER, METADATA, execute

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: Libraries that a notebook needs and the tests do not install.
NEEDED = {"11_which_conductances": "sbi"}


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures(notebook: nbformat.NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 11


#: Each trains, simulates or compiles for half a minute.
LONG = "3_spikes_in_a_torch_model", "4_train_on_speech", "5_fit_a_recording", "6_networks", "7_your_own_neuron"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.long if path.stem in LONG else ()) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_runs(path: Path) -> None:
    if path.stem in NEEDED:
        pytest.importorskip(NEEDED[path.stem])
    stored, fresh = nbformat.read(path, as_version=4), execute(path)
    errors = [output.text for output in outputs(fresh) if output.get("name") == "stderr"]
    assert not [text for text in errors if "No CUDA runtime is found" not in text]  # torch for CUDA
    assert pictures(fresh) == pictures(stored)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [
        output for output in outputs(notebook) if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert pictures(notebook) >= 1
    assert notebook.metadata == METADATA
    assert not any(cell.metadata for cell in notebook.cells)
    assert path.stat().st_size < 300_000
    text = path.read_text().replace("SilenceWarning", "").replace("warnings", "")
    assert not any(word in text for word in ("/home/", "/root/", "/tmp/", "/work/", "Traceback", "Warning"))
