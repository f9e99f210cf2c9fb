"""Neurons and synapses as NIR nodes, and back.

NIR is in continuous time and has no units; here, as elsewhere, its time is in seconds, and its values are those of mV,
pA and Gohm. A node's ``metadata`` holds what NIR has no place for: class, dt, reset, surrogate, which parameters are
learned, initial values, and the exact parameters. They count only as long as the node itself has not been changed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import surrogate as surrogates
from .. import units as u
from ..core.dynamics import Dynamics
from ..delays.delay import Delay
from ..neurons import IF, LIF
from ..readouts.leaky import LeakyIntegrator, LeakySpike
from ..synapses import Expon
from .errors import NIRError, package
from .models import LI, PerfectIF, Scale

MS = 1e-3  # s


def _array(module: Any, name: str) -> np.ndarray:
    value = getattr(module, name)
    value = value.detach().cpu().double() if isinstance(value, Tensor) else torch.tensor(float(value)).double()
    return value.expand(module.size).numpy().copy()


def _gain(tau: np.ndarray, dt: float) -> np.ndarray:
    """What the exact step takes of the input."""
    return -np.expm1(-dt / tau)


def _membrane(m: Any, tau: str = "tau") -> dict[str, np.ndarray]:
    leaky_spike = isinstance(m, LeakySpike)
    rest = np.zeros(m.size) if isinstance(m, (IF, LeakySpike)) else _array(m, "V_rest")
    return {
        tau: _array(m, "tau") * MS,
        "r": np.ones(m.size) if leaky_spike else _array(m, "R"),
        "v_leak": rest,
        "v_threshold": _array(m, "V_th"),
        "v_reset": _array(m, "V_reset"),
    }


def _jump_integrator(m: Any) -> dict[str, np.ndarray]:
    tau = _array(m, "tau")
    return {"tau": tau * MS, "r": 1 / _gain(tau, m.dt), "v_leak": np.zeros(m.size)}


def _li(m: LI) -> dict[str, np.ndarray]:
    return {"tau": _array(m, "tau") * MS, "r": _array(m, "R"), "v_leak": _array(m, "V_rest")}


def _if(m: PerfectIF) -> dict[str, np.ndarray]:
    return {"r": _array(m, "R") / MS, "v_threshold": _array(m, "V_th"), "v_reset": _array(m, "V_reset")}


def _delay(m: Delay) -> dict[str, np.ndarray]:
    return {"delay": _array(m, "delay") * MS}


#: Class of a model: kind of node, and the values of its fields.
WRITERS: dict[type, tuple[str, Callable[[Any], dict[str, np.ndarray]]]] = {
    LIF: ("LIF", _membrane),
    IF: ("LIF", _membrane),
    LeakySpike: ("LIF", _membrane),
    PerfectIF: ("IF", _if),
    LeakyIntegrator: ("LI", _jump_integrator),
    Expon: ("LI", _jump_integrator),
    LI: ("LI", _li),
    Delay: ("Delay", _delay),
}
CLASSES = {kind.__name__: kind for kind in WRITERS}


def cuba(syn: Expon, neuron: LIF | IF) -> dict[str, np.ndarray]:
    """The fields of a CubaLIF: a synapse and the neuron behind it."""
    tau = _array(syn, "tau")
    return {"tau_syn": tau * MS, "w_in": 1 / _gain(tau, syn.dt)} | _membrane(neuron, "tau_mem")


def write(*models: Any) -> Any:
    """The node of one model, or of a synapse and a neuron."""
    kind: str
    fields: Callable[..., dict[str, np.ndarray]]
    kind, fields = WRITERS[type(models[0])] if len(models) == 1 else ("CubaLIF", cuba)
    metadata = {"neurodyn": {str(i): _describe(model) for i, model in enumerate(models)}}
    return getattr(package(), kind)(**fields(*models), metadata=metadata)


def _describe(model: Any) -> dict[str, Any]:
    learned = [name for name in model.params if name in model._parameters or f"raw_{name}" in model._parameters]
    values = {name: getattr(model, name).detach().cpu().double() for name in model.params}
    values = {name: x.numpy() if x.dim() else x.item() for name, x in values.items()}
    found: dict[str, Any] = {"class": type(model).__name__, "dt_ms": model.dt, "learn": ",".join(learned)}
    for name in ("reset", "reset_gradient", "interpolation"):
        if hasattr(model, name):
            found[name] = getattr(model, name)
    if isinstance(model, Delay):
        found["interpolation"] = "none" if model.whole else "linear"
    if (scale := getattr(model, "surrogate_scale", None)) is not None:
        found["surrogate_scale_mV"] = scale
    spike = getattr(model, "surrogate", None)
    if isinstance(spike, surrogates.Surrogate) and type(spike).__module__ == surrogates.__name__:
        found["surrogate"] = json.dumps([type(spike).__name__, dataclasses.asdict(spike)])
    return found | {"values": values}


def described(node: Any, options: Mapping[str, Any]) -> nn.Module | None:
    """The model that a node's metadata describe; None if there are none, or if they are not those of the node."""
    notes = node.metadata.get("neurodyn") if isinstance(node.metadata, dict) else None
    if not isinstance(notes, dict) or not notes:
        return None
    try:
        models = [_rebuild(notes[str(i)], _shape(node), options) for i in range(len(notes))]
        again = write(*models)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    fields = [field.name for field in dataclasses.fields(node) if field.name not in ("input_type", "output_type")]
    for name in fields:
        if name != "metadata":
            ours, theirs = (np.asarray(getattr(each, name, np.nan)) for each in (again, node))
            if type(again) is not type(node) or not np.allclose(ours, theirs, rtol=1e-6, atol=0):
                return None
    return models[0] if len(models) == 1 else nn.Sequential(*models)


def _rebuild(notes: Mapping[str, Any], size: tuple[int, ...], options: Mapping[str, Any]) -> Dynamics:
    kind: Any = CLASSES[str(notes["class"])]
    words = ("reset", "reset_gradient", "interpolation")
    keywords: dict[str, Any] = {name: str(notes[name]) for name in words if name in notes}
    if "surrogate_scale_mV" in notes:
        keywords["surrogate_scale"] = float(notes["surrogate_scale_mV"]) * u.mV
    if "surrogate" in notes:
        name, fields = json.loads(notes["surrogate"])
        spike = getattr(surrogates, name)
        if not (isinstance(spike, type) and issubclass(spike, surrogates.Surrogate)):
            raise ValueError(name)
        keywords["surrogate"] = spike(**fields)
    for name, value in notes["values"].items():
        keywords[name] = u.quantity(torch.as_tensor(np.asarray(value)), kind.params[name].unit)
    learn = tuple(word for word in str(notes["learn"]).split(",") if word)
    return kind(size, dt=float(notes["dt_ms"]) * u.ms, learn=learn, **keywords, **options)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in next(iter(node.output_type.values())))


class Reader:
    """Nodes without metadata of neurodyn, as models.

    Args:
        dt: time step in ms, or None if it is not known.
        reset: "hard", as NIR says, or "soft".
        euler: choose the time constants whose exact step is the forward Euler step of the given ones.
        options: device and dtype.
    """

    def __init__(self, dt: float | None, reset: str, euler: bool, options: Mapping[str, Any]):
        self._dt, self.reset, self.euler, self.options = dt, reset, euler, dict(options)

    @property
    def dt(self) -> float:
        """The time step in ms."""
        if self._dt is None:
            raise NIRError("the file does not say its time step; pass dt=, for example dt=0.1 * u.ms")
        return self._dt

    def read(self, node: Any, size: tuple[int, ...]) -> nn.Module:
        kind = type(node).__name__
        if kind == "Delay":
            return Delay(size, self._value(node.delay / MS, "ms"), dt=self.dt * u.ms, **self.options)
        if kind == "IF":
            values = {"R": self._value(node.r * MS, "Gohm/ms")}
            return self._build(PerfectIF, size, **values, **self._threshold(node))
        if kind in ("LI", "CubaLI"):
            membrane = self._build(LI, size, reset=None, **self._leak(node, node.tau if kind == "LI" else node.tau_mem))
        else:
            tau = node.tau if kind == "LIF" else node.tau_mem
            membrane = self._build(LIF, size, **self._leak(node, tau), **self._threshold(node))
        if not kind.startswith("Cuba"):
            return membrane
        tau = self._tau(node.tau_syn)
        scale = np.broadcast_to(node.w_in * _gain(tau, self.dt), size)
        factor = torch.as_tensor(scale.copy(), dtype=self.options["dtype"], device=self.options["device"])
        synapse = self._build(Expon, size, reset=None, tau=self._value(tau, "ms"))
        return nn.Sequential(Scale(factor), synapse, membrane)

    def _build(self, kind: Any, size: tuple[int, ...], reset: str | None = "", **values: Any) -> Dynamics:
        if reset is not None:
            values["reset"] = self.reset
        return kind(size, dt=self.dt * u.ms, **values, **self.options)

    def _leak(self, node: Any, tau: Any) -> dict[str, Any]:
        return {
            "tau": self._value(self._tau(tau), "ms"),
            "R": self._value(node.r, "Gohm"),
            "V_rest": self._value(node.v_leak, "mV"),
        }

    def _threshold(self, node: Any) -> dict[str, Any]:
        return {"V_th": self._value(node.v_threshold, "mV"), "V_reset": self._value(node.v_reset, "mV")}

    def _tau(self, tau: Any) -> np.ndarray:
        tau = np.asarray(tau, dtype=np.float64) / MS
        if not self.euler:
            return tau
        if not (tau > self.dt).all():
            raise NIRError(f"a time constant of {tau.min():g} ms has no forward Euler step of dt={self.dt:g} ms")
        return -self.dt / np.log1p(-self.dt / tau)

    def _value(self, value: Any, unit: str) -> Any:
        value = np.asarray(value, dtype=np.float64)
        return u.quantity(torch.tensor(value if value.size != 1 else value.reshape(())), unit)
