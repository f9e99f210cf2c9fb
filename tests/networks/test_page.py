"""The code of docs/projections.md runs, in order."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import neurodyn as nd


def test_projections_page() -> None:
    torch.set_default_dtype(torch.float32)
    text = (Path(__file__).parents[2] / "docs" / "projections.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 15
    names: dict = {}
    before = nd.get_default_dt()
    try:
        for block in blocks:
            exec(compile(block, "projections.md", "exec"), names)
    finally:
        nd.set_default_dt(before)
    assert names["first"].shape == names["second"].shape == (20, 100)
    assert names["first"].sum() > 0
    assert names["post"].V.isfinite().all()
