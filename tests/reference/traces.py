"""Reference traces of brainstate 0.1.3 (float64): ``traces/<case>.json`` describes the arrays in ``traces/<case>.npz``.

Keys: ``in_*`` is the input of each step, ``init_*`` the state before the first step, ``st_*`` the state after each
step, ``out_*`` the return value of each step, ``grad_*`` the gradient of ``out_loss``, ``p_*`` array parameters (see
`Trace.params`), ``w_*`` weights ``(n_in, n_out)``.

brainstate has mA and ohm where neurodyn has pA and Gohm. Reading a trace renames them, and with them S to nS, so that
every product keeps its number: a current of 2 mA becomes 2 pA, into 1 Gohm instead of 1 ohm.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import neurodyn as nd
from neurodyn import units as u

FOLDER = Path(__file__).parent / "traces"
#: brainstate's defaults of IF, LIF, LIFRef and ALIF, where neurodyn has others.
BRAINSTATE: dict[str, Any] = {"R": 1 * u.Gohm, "surrogate": nd.surrogate.ReluGrad()}


def names(*prefixes: str) -> list[str]:
    """The cases whose name starts with one of `prefixes`."""
    return sorted(path.stem for path in FOLDER.glob("*.json") if path.stem.startswith(prefixes))


@dataclass(frozen=True)
class Trace:
    """One case; ``trace["in_x"]`` is a tensor in canonical units, with the electrical units renamed."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def __getitem__(self, key: str) -> Tensor:
        factor, _ = _factor(self.meta["arrays"][key]["unit"])
        return torch.as_tensor(self.arrays[key] * factor)

    def keys(self, prefix: str) -> list[str]:
        """The names of the arrays with this prefix, without it."""
        return [key.removeprefix(prefix) for key in self.meta["arrays"] if key.startswith(prefix)]

    @property
    def params(self) -> dict[str, u.Quantity]:
        """All parameters as quantities, ready for a constructor."""
        found = {}
        for name, entry in self.meta["params"].items():
            factor, unit = _factor(entry["unit"])
            value = self.arrays[entry["npz"]] if "npz" in entry else entry["value"]
            found[name] = u.quantity(value * factor, unit)
        return found

    @property
    def dt(self) -> u.Quantity:
        return u.quantity(self.meta["dt"]["value"], self.meta["dt"]["unit"])

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(self.meta["in_size"])

    @property
    def batch(self) -> tuple[int, ...]:
        return () if self.meta["batch"] is None else (self.meta["batch"],)

    @property
    def surrogate(self) -> nd.surrogate.Surrogate:
        options = dict(self.meta["options"]["spk_fun"])
        return getattr(nd.surrogate, options.pop("name"))(**options, formula="brainstate")


def load(name: str) -> Trace:
    """The case `name`."""
    meta = json.loads((FOLDER / f"{name}.json").read_text())
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return Trace(meta, {key: arrays[key] for key in arrays.files if key != "meta"})


def _factor(unit: str) -> tuple[float, Any]:
    """By what a number in `unit` is multiplied, and the canonical unit of the product."""
    found = u.registry.Unit(unit)
    target = u.canonical_unit(found)
    dimensions = found.dimensionality
    currents = round(dimensions.get("[current]", 0) + dimensions.get("[mass]", 0))
    return u.quantity(1.0, found).to(target).magnitude * 1e-9**currents, target
