"""``python -m benchmarks accuracy [--ecg FOLDER] [--tasks NAME ...]``: test accuracy beside published numbers.

Settings and seeds are in the file of each task. A part of the training set chooses the epoch, the test set is looked
at once, after that. Rows whose data or package are not there say so. ``contact`` and ``delay`` compare with other
libraries and with a bar, and choose nothing.
"""

from __future__ import annotations

from typing import Any

from ..timing import Options
from . import contact, delay, ecg, mnist1d, neurodyn_data, yin_yang, yin_yang_times
from .row import Row
from .task import Task
from .training import train

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        neurodyn_data.VOWELS,
        neurodyn_data.DIGITS,
        ecg.TASK,
        mnist1d.TASK,
        yin_yang.TASK,
        yin_yang_times.TASK,
    )
}
OTHERS = {"delay": delay.run, "contact": contact.run}


def measure(task: Task, options: Options) -> Row:
    """All seeds of a task, one after the other."""
    try:
        parts = task.load(options.ecg)
    except (ImportError, FileNotFoundError) as error:
        return Row(task, [], str(error))
    seeds, epochs = (task.seeds[:1], 1) if options.toy else (task.seeds, task.epochs)
    outcomes = []
    for seed in seeds:
        outcomes.append(train(task, parts, seed, epochs))
        print(f"  {task.name}, seed {seed}: {outcomes[-1]}", flush=True)
    return Row(task, outcomes)


def run(options: Options) -> list[Any]:
    """Each task in turn."""
    rows: list[Any] = []
    for name in options.tasks or (*TASKS, *OTHERS):
        if name in OTHERS:
            rows += OTHERS[name](options)
        elif name in TASKS:
            rows.append(measure(TASKS[name], options))
            print(rows[-1], flush=True)
        else:
            raise SystemExit(f"accuracy: no task {name!r}; there are {', '.join((*TASKS, *OTHERS))}")
    return rows
