"""Networks and calls written at random: a loop by hand, `compile=False` and the compiled loop give the same."""

from __future__ import annotations

import pytest
from soundness.fuzz import run
from soundness.written import program

from neurodyn.engine import program as programs


def check(seed: int) -> None:
    text = program(seed)
    compared, said = run(text, seed=seed)
    assert not said, "\n".join([*said, f"python -m tests.soundness.fuzz --seeds {seed}:{seed + 1}", text])
    assert compared


#: With Inductor, in chunks of one step, which compile in a third of the time.
KERNELS = [0, 3, 4, 7, 15, 18]
#: What is traced, without Inductor.
GRAPHS = [seed for seed in range(39) if seed not in KERNELS]


@pytest.mark.kernels
@pytest.mark.parametrize("seed", KERNELS)
def test_the_three_loops_agree(seed, monkeypatch):
    monkeypatch.setattr(programs, "CHUNK", ())
    check(seed)


@pytest.mark.parametrize("seed", GRAPHS)
def test_the_graphs_of_the_three_loops_agree(seed):
    check(seed)


@pytest.mark.kernels
@pytest.mark.long
@pytest.mark.parametrize("seed", [*(seed for seed in range(46) if seed not in KERNELS), *range(1000, 2100)])
def test_the_three_loops_agree_in_many_programs(seed):
    check(seed)
