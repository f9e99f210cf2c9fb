"""What was found for one task, beside what is published."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from .task import Task
from .training import Outcome

SETTINGS = ("epochs", "batch", "lr", "weight_decay", "slow_lr", "average", "label_smoothing", "clip")


@dataclass
class Row:
    """The outcomes of the seeds; `absent` is the reason if the task could not be run."""

    task: Task
    outcomes: list[Outcome]
    absent: str = ""

    def __str__(self) -> str:
        """Lines for the terminal."""
        title = f"{self.task.name}: {self.task.network}"
        if self.absent:
            return f"{title}\n  not run: {self.absent}"
        tests = [outcome.test for outcome in self.outcomes]
        mean, spread = statistics.mean(tests), statistics.stdev(tests) if len(tests) > 1 else 0.0
        seconds = statistics.mean(outcome.seconds for outcome in self.outcomes)
        lines = [
            title,
            _line(f"{mean:.2f} +- {spread:.2f}", f"neurodyn, {len(tests)} seeds, {seconds:.0f} s each"),
            _line("", " ".join(f"{test:.2f}" for test in tests)),
            _line(f"{statistics.mean(o.validation for o in self.outcomes):.2f}", "the same on the validation set"),
            *(_line(published.accuracy, published.source) for published in self.task.published),
        ]
        if (bar := self.task.bar) is not None:
            lines.append(_line(f"{bar:.2f}", "bar: " + ("reached" if mean >= bar else f"missed by {bar - mean:.2f}")))
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        """For JSON."""
        outcomes = [{"seed": seed} | asdict(found) for seed, found in zip(self.task.seeds, self.outcomes, strict=False)]
        return {
            "name": self.task.name,
            "network": self.task.network,
            "settings": {key: getattr(self.task, key) for key in SETTINGS},
            "absent": self.absent,
            "outcomes": outcomes,
            "published": [published._asdict() for published in self.task.published],
            "bar": self.task.bar,
        }


def _line(number: str, text: str) -> str:
    return f"  {number:16} {text}"
