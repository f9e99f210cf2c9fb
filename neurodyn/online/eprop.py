"""Eligibility propagation: traces that meet a learning signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.dynamics import Dynamics
from .drtrl import DRTRL
from .local import Key, Step, slopes
from .maps import add_grad
from .plan import Plan


class EProp(DRTRL):
    r"""e-prop: the eligibility traces of `DRTRL`, filtered as the readout filters, times a learning signal.

    $e_t = \frac{dz_t}{dW}$ within the neuron, $\bar e_t = \kappa\,\bar e_{t-1} + e_t$, and
    $\frac{dL}{dW} \approx \sum_t (B^T \frac{\partial L_t}{\partial a^{out}_t})\,\bar e_t$.

    z are the spikes that go into a linear map, $a^{out}$ is what the map makes of them, and $\kappa$ the factor
    $e^{-dt/\tau}$ of the leaky readout behind it; no filter where no readout with a state follows. So the time in the
    readout is exact, and what is left out is that neurons act on each other through time.

    The feedback B is that of the map itself ("symmetric"); fixed random numbers ("random"); or random numbers that
    learn as the map does ("adaptive"): they are trained parameters, `learner.parameters()`, whose ``.grad`` is that of
    the map. Give them to the optimizer as well, with the same weight decay for both, so that they align.

    A recurrent layer has the gradient of Bellec et al. where its reset has none, ``reset_gradient="detached"``.

    Cost: that of `DRTRL`, and one more trace for each weight into a layer before a leaky readout.

    Takes: what `DRTRL` takes; random and adaptive feedback need maps with a ``weight`` (out, in).

    Args:
        net: see `Learner`.
        feedback: as above, or B (out, in) by the name of a map, as from ``net.named_modules()``.
        compile: see `Learner`.

    Raises:
        ValueError: a name that is no linear map, or a B of another shape; a readout with more than one time constant.
        NotImplementedError: at the first step, random or adaptive feedback for a map without a weight (out, in).

    Source: Bellec, Scherr, Subramoney, Hajek, Salaj, Legenstein and Maass (2020), A solution to the learning dilemma
    for recurrent networks of spiking neurons, Nature Communications 11.

    Example:
        >>> layer = nd.Recurrent(nd.LIF(20, reset_gradient="detached"), torch.nn.Linear(20, 20))
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 20), layer, nd.LeakyRateReadout(20, 2))
        >>> learner = nd.online.EProp(net, feedback="random")
        >>> for x in torch.rand(20, 4, 3):
        ...     learner.backward(learner(x).square().mean())
    """

    read = ("feedback",)

    def __init__(
        self,
        net: nn.Module,
        feedback: Literal["symmetric", "random", "adaptive"] | Mapping[str, Tensor] = "symmetric",
        *,
        compile: bool = True,
    ):
        super().__init__(net, compile=compile)
        names = {name: map for map, name in self.maps.items()}
        if isinstance(feedback, str) and feedback not in ("symmetric", "random", "adaptive"):
            raise ValueError(
                f"EProp: feedback must be 'symmetric', 'random', 'adaptive' or B by name, got {feedback!r}"
            )
        self.adaptive = feedback == "adaptive"
        self.drawn = feedback if feedback in ("random", "adaptive") else ""
        given = {} if isinstance(feedback, str) else feedback
        if feedback in ("random", "adaptive"):
            shapes = {name: map.weight for name, map in names.items() if isinstance(map.weight, Tensor)}
            given = {name: torch.randn_like(w) / w.shape[-1] ** 0.5 for name, w in shapes.items() if w.dim() == 2}
        self.feedback: dict[str, Tensor] = {}
        for name, B in given.items():
            if name not in names:
                raise ValueError(f"EProp: no linear map {name!r}; the network has {', '.join(names)}")
            shape = tuple(getattr(names[name], "weight", B).shape)
            if tuple(B.shape) != shape:
                raise ValueError(f"EProp: the feedback of {name} has shape {tuple(B.shape)}, wanted {shape}")
            self.feedback[name] = nn.Parameter(B.detach().clone(), requires_grad=self.adaptive)

    def parameters(self) -> list[Tensor]:
        """The feedback that learns; empty unless it is "adaptive"."""
        return list(self.feedback.values()) if self.adaptive else []

    def planned(self, step: Step, plan: Plan) -> None:
        """Give the inputs of maps before a readout traces of their own, which are filtered as it does."""
        for call, kept in zip(step.calls, plan.kept, strict=True):
            if self.drawn and kept and call.exit is not None and call.name not in self.feedback:
                raise NotImplementedError(
                    f"EProp: there is no {self.drawn} feedback for {call.name}, a {type(call.map).__name__}, which has "
                    "no weight (out, in); use feedback='symmetric', or nn.Linear"
                )
        found = {k: row for k, kept in enumerate(plan.kept) if kept and (row := _readout(k, plan)) is not None}
        self.readouts = {k: row for k, row in found.items() if not self._emits_spikes(row)}
        for k in self.readouts:
            exit = step.calls[k].exit
            assert exit is not None
            known = [key for key in step.leaves if key[0] != "state" or key in plan.rows]
            found = zip(known, slopes([exit], known, step, torch.ones_like), strict=True)
            leaves = [key for key, slope in found if slope is not None]
            sources = {key for key in leaves if key[0] != "state"}
            sources = sources.union(*(plan.carried[key] for key in leaves if key[0] == "state"))
            plan.carried["exit", k] = sources & plan.trained
            plan.rows["exit", k] = leaves

    def advance(self, step: Step) -> None:
        for k in self.readouts:
            step.rows["exit", k]["exit", k] = self._kappa(k, step)
        super().advance(step)

    def feedback_of(self, k: int, step: Step, signal: Tensor, back: Tensor | None) -> Tensor | None:
        call = step.calls[k]
        if call.name in self.feedback:
            B = self.feedback[call.name]
            back = signal @ B.detach()
            if self.adaptive:
                add_grad(B, torch.einsum("bn,bi->ni", signal.flatten(0, -2), call.x.detach().flatten(0, -2)))
        if k in self.readouts and back is not None:
            self.filtered["exit", k] = self._kappa(k, step) * back
        return back

    def pull(self, step: Step) -> None:
        self.filtered: dict[Key, Tensor] = {}  # gradients by the filtered inputs of maps before a readout
        super().pull(step)

    def collect(self, step: Step, signals: list[Tensor | None], pulls: dict[Key, Tensor]) -> None:
        super().collect(step, signals, pulls | self.filtered)

    def _emits_spikes(self, row: Key) -> bool:
        """Whether a state is that of a neuron, which is no readout."""
        layer = self.net.get_submodule(row[1].rpartition(".")[0])
        return isinstance(layer, Dynamics) and layer.emits_spikes

    def _kappa(self, k: int, step: Step) -> Tensor:
        row = self.readouts[k]
        values = step.rows[row][row].detach()
        if (kappa := self.one_value(values)) is None:
            low, high = values.aminmax()
            raise ValueError(
                f"EProp: the readout state {row[1]} behind {step.calls[k].name} decays by factors from {low:g} to "
                f"{high:g} a step, and traces can be filtered by one only; give the readout one tau"
            )
        assert step.calls[k].exit is not None
        return kappa.expand_as(step.calls[k].exit)  # type: ignore[arg-type]


def _readout(k: int, plan: Plan) -> Key | None:
    """The state that the k-th call of a map feeds, if it leaks alone and no other state depends on it."""
    fed = [row for row, leaves in plan.rows.items() if ("map", k) in leaves]
    if len(fed) != 1 or {key for key in plan.rows[fed[0]] if key[0] == "state"} != {fed[0]}:
        return None
    others = [leaves for row, leaves in plan.rows.items() if row != fed[0]]
    return None if any(fed[0] in leaves for leaves in others) else fed[0]
