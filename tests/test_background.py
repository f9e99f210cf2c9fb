"""What threads do while another one compiles."""

import threading
import time

import pytest

from neurodyn.engine import background


class Slow:
    """An instruction set that has other flags while it is tried."""

    def __init__(self, name: str):
        self.name, self.tried, self.flags = name, 0, "plain"

    def __str__(self) -> str:
        return self.name

    def __bool__(self) -> bool:
        if not self.tried:
            assert self.flags == "plain"
            self.flags = "other"
            time.sleep(0.05)
            self.flags, self.tried = "plain", self.tried + 1
        return True


def test_instruction_sets_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [Slow(name) for name in "abc"]
    monkeypatch.setattr(background, "_trying", {str(isa): threading.Lock() for isa in sets})
    monkeypatch.setattr(background, "x86_isa_checker", lambda: ["a", "b", "c"])
    other = threading.Thread(target=background.try_instruction_sets, args=(sets[::-1],))
    other.start()
    background.try_instruction_sets(sets)
    assert [(isa.tried, isa.flags) for isa in sets] == [(1, "plain")] * 3
    other.join()
    assert [isa.tried for isa in sets] == [1, 1, 1]
