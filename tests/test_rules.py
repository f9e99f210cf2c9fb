"""Inductor's rules for types."""

import pytest
import torch
from torch._inductor import utils
from torch._inductor.dtype_propagation import DtypePropagationOpsHandler as Rules

from neurodyn.engine.rules import rules_once


@pytest.mark.skipif(torch.__version__ >= "2.14", reason="torch makes them once itself")
def test_rules_are_made_again_only_for_new_ones(monkeypatch):
    made = []
    monkeypatch.setattr(Rules, "__init__", lambda self: made.append(len(utils.op_dtype_propagation_rules)))
    before = Rules.__init__
    with rules_once():
        assert [Rules() is Rules() for _ in range(3)] == [True] * 3
        assert len(made) == 1
        utils.op_dtype_propagation_rules["of_this_test"] = None
        try:
            Rules()
            Rules()
        finally:
            del utils.op_dtype_propagation_rules["of_this_test"]
    assert made == [made[0], made[0] + 1]
    assert Rules.__init__ is before
    Rules()
    assert len(made) == 3
