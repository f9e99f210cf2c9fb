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


#: Some 160 calls, each compared twice: chunks of two steps, and of one, which compile in a third of the time.
SEEDS = [0, 1, 3, 4, 6, 8, 12, 14]
SINGLE = [7, *(seed for seed in range(15, 45) if seed not in (25, 27, 40, 42, 44))]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_three_loops_agree(seed):
    check(seed)


@pytest.mark.parametrize("seed", SINGLE)
def test_the_three_loops_agree_in_chunks_of_one_step(seed, monkeypatch):
    monkeypatch.setattr(programs, "CHUNK", ())
    check(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 5, 7, *range(9, 12), 13, *range(15, 46), *range(1000, 2100)])
def test_the_three_loops_agree_in_many_programs(seed):
    check(seed)
