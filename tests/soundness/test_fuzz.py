"""Networks and calls written at random: a loop by hand, `compile=False` and the compiled loop give the same."""

from __future__ import annotations

import pytest
from soundness.fuzz import run
from soundness.written import program


def check(seed: int) -> None:
    text = program(seed)
    compared, said = run(text, seed=seed)
    assert not said, "\n".join([*said, f"python -m tests.soundness.fuzz --seeds {seed}:{seed + 1}", text])
    assert compared


#: Some 200 comparisons.
SEEDS = [0, 1, *range(3, 15)]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_three_loops_agree(seed):
    check(seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, *range(15, 45), *range(1000, 2100)])
def test_the_three_loops_agree_in_many_programs(seed):
    check(seed)
