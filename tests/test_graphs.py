"""How many graphs each model compiles: one for a chunk of steps and one for a single step, forward and backward."""

from __future__ import annotations

import pytest
import torch

import neurodyn as nd
from neurodyn.engine import chunk, programs

#: Steps in a chunk, where it is not 8: the equations of these models are long.
CHUNKS = {"QuaIF": 4} | dict.fromkeys(("ExpIF", "AdEx", "Izhikevich", "HH", "MorrisLecar", "GIF"), 2)


@pytest.fixture
def compiled(monkeypatch, long_chunks):
    """The graphs that are compiled, in a process that has compiled none; they run without Inductor."""
    graphs = []

    def keep(graph, inputs, **_):
        graphs.append(graph)
        return lambda arguments: graph(*arguments)

    monkeypatch.setattr(chunk, "compile_fx_inner", keep)
    return graphs


def test_no_more_graphs_than_needed(model, compiled, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # with one, single steps are compiled when they are needed
    layer, chunk = model(), CHUNKS.get(model.name, 8)
    for T, batch in ((2 * chunk, 3), (2 * chunk + 1, 2), (1, 1)):
        xs = model.input(T, batch, 5).requires_grad_()
        nd.unroll(layer, xs).sum().backward()
        assert len(compiled) == 4
    (only,) = programs._programs.values()
    assert only.steps == chunk
    nd.unroll(model(), torch.zeros_like(xs))  # another of the kind
    assert len(compiled) == 4
