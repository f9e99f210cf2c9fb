"""The folder of a training run: which of its files the run wrote and may replace, and which are somebody else's."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from .. import checkpoint

#: In the metadata of the pictures, so that they are known again.
MARK = "neurodyn train"
PICTURES = ("learning_curve.png", "raster.png")
METRICS = "metrics.jsonl"
COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_accuracy")


class RunError(ValueError):
    """The folder of a run holds another run, or files that the run would write over."""


class RunFolder:
    """The files of a run of so many epochs in the folder `out`."""

    def __init__(self, out: Path, epochs: int):
        self.out, self.epochs = out, epochs

    def checkpoint(self, epoch: int) -> Path:
        """The file of an epoch."""
        return self.out / f"epoch_{epoch:03}.safetensors"

    def start(self, overwrite: bool) -> None:
        """Make the folder ready for a new run; a run that is there is deleted only with `overwrite`.

        Raises:
            RunError: there is a run, or a file that no run wrote where this one would write, or no folder can be made.
        """
        own = self._own()
        self._refuse_others(own)
        if not overwrite and (there := own or sorted(self.out.glob("epoch_*.safetensors"))):
            raise RunError(
                f"{self.out} holds a run of neurodyn train already, or what looks like one ({there[0].name}); --resume "
                "goes on with it, --overwrite replaces what neurodyn train wrote, and --out FOLDER writes elsewhere"
            )
        self._make()
        for path in own:
            path.unlink()

    def last(self, settings: dict[str, Any]) -> tuple[Path, list[dict[str, Any]]] | None:
        """The last checkpoint of the run that is there and its metrics; None if there is no run.

        Raises:
            RunError: a run with other settings, a file that no run wrote where this one would write, or no folder can
                be made.
        """
        own = self._own()
        self._refuse_others(own)
        found = [path for path in own if path.suffix == ".safetensors"]
        if not found and own:
            raise RunError(
                f"--resume: {self.out} holds {own[0].name} and no checkpoint to go on from; --overwrite starts anew"
            )
        if not found:
            self._make()
            return None
        path = max(found, key=_epoch)
        record = _record(path) or {}
        metrics = record.pop("metrics")
        if record != settings:
            raise RunError(
                f"--resume: {self.out} holds a run with {record}, not with {settings}; give its options again, or "
                "another --out"
            )
        return path, metrics

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Write one line for each epoch, all or none."""
        part = self.out / f"{METRICS}.{os.getpid()}.part"
        part.write_text("".join(json.dumps(row) + "\n" for row in rows))
        part.replace(self.out / METRICS)

    def _make(self) -> None:
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.out} cannot be made ({error.strerror or error}); give another --out") from error

    def _own(self) -> list[Path]:
        """The files that a run wrote."""
        return [path for path in sorted(self.out.glob("*")) if _is_own(path)]

    def _refuse_others(self, own: list[Path]) -> None:
        names = [self.checkpoint(i + 1).name for i in range(self.epochs)] + [METRICS, *PICTURES]
        there = {path.name for path in self.out.glob("*")} - {path.name for path in own}
        if others := [name for name in names if name in there]:
            raise RunError(
                f"{self.out} holds {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}, which neurodyn train "
                "did not write, or which is damaged, and would write over; move it away, or give another --out"
            )


def _is_own(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        if _epoch(path):
            return _record(path) is not None
        if path.name == METRICS:
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            return all(isinstance(row, dict) and row.keys() == set(COLUMNS) for row in rows)
        return path.name in PICTURES and MARK.encode() in path.read_bytes()[:4096]
    except (OSError, ValueError, RecursionError):
        return False


def _epoch(path: Path) -> int:
    """The epoch in the name of a checkpoint; 0 for another file."""
    found = re.fullmatch(r"epoch_(\d{3,9})\.safetensors", path.name, re.ASCII)
    return int(found[1]) if found else 0


def _record(path: Path) -> dict[str, Any] | None:
    """What a checkpoint says of its run; None if it is none of ours."""
    record = checkpoint.load(path).get("record")
    if not isinstance(record, dict) or record.keys() != {"data", "epochs", "seed", "metrics"}:
        return None
    return record if isinstance(record["metrics"], list) else None
