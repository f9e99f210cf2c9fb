"""The code of every page in docs/ runs, links and pictures exist, and the migrated neurons spike as the originals."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from shown_networks import watched

import neurodyn as nd

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
OWN_TEST = ("projections.md",)  # networks/test_page.py
#: What need not spike or learn, by page.
STILL = {
    "neurons.md": ["Pyramidal: neuron ThreeCompartments"],  # its spikes are those of a dendrite
    "from_nest.md": ["Four: to_I.weight has no gradient"],  # the one inhibitory spike comes later than the 40 ms shown
}


def run(page: Path) -> dict:
    """The names that the code of a page leaves behind."""
    names: dict = {}
    before = nd.get_default_dt()
    try:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
            exec(compile(block, page.name, "exec"), names)
    finally:
        nd.set_default_dt(before)
        plt.close("all")
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OWN_TEST], ids=lambda page: page.name)
def test_code_runs(page: Path) -> None:
    """And every network that it runs by `unroll` spikes in each layer, and has a gradient in each parameter."""
    torch.set_default_dtype(torch.float32)  # as a reader has it
    with watched() as shown:
        run(page)
    still = STILL.get(page.name, [])
    assert not [text for text in shown.complaints() if not any(text.startswith(known) for known in still)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_that_trains_shows_a_falling_loss(page: Path) -> None:
    for block in re.findall(r"```py(?:thon)?\n(.*?)```", page.read_text(), re.DOTALL):
        if ".step()" in block and "backward(" in block:
            assert re.search(r"^assert .*(losses|loss).* < ", block, re.MULTILINE), block


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_migrated_neurons_spike_as_the_originals() -> None:
    names = run(ROOT / "docs" / "migration.md")
    with np.load(ROOT / "tests" / "reference" / "peers.npz") as arrays:
        wanted = {name: torch.from_numpy(arrays[name]).double() for name in arrays.files}
    x = wanted.pop("x")
    assert len(wanted) == 9
    for name, spikes in wanted.items():
        scale = 4 if name.endswith("normed") or "_decayed_" in name else 0.25 if "_plain" in name else 1
        assert torch.equal(nd.unroll(names[name], scale * x, compile=False), spikes), name
        assert spikes.sum() > 50
