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


#: Chunks of two steps, as the other tests have, and of one, which compile in a third of the time.
SEEDS = [0, 6]
SINGLE = [3, 4, 7, 15, 18, 22, 26, 30, 34, 38]
#: What is traced, without Inductor.
GRAPHS = [1, 2, 5, *range(8, 15), *(seed for seed in range(16, 36) if seed not in SINGLE)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_three_loops_agree(seed):
    check(seed)


@pytest.mark.parametrize("seed", SINGLE)
def test_the_three_loops_agree_in_chunks_of_one_step(seed, monkeypatch):
    monkeypatch.setattr(programs, "CHUNK", ())
    check(seed)


@pytest.mark.parametrize("seed", GRAPHS)
def test_the_graphs_of_the_three_loops_agree(seed):
    check(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", [*(seed for seed in range(46) if seed not in SEEDS), *range(1000, 2100)])
def test_the_three_loops_agree_in_many_programs(seed):
    check(seed)
