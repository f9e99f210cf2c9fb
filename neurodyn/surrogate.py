r"""Spike functions: a step forward, a chosen slope backward.

Forward, every one is $H(x) = 1$ for $x \ge 0$, else 0. Backward, $\partial H/\partial x$ is replaced by the slope
$s(x)$ that its class documents; derivatives of $s$ itself are taken as zero.

The formulas are those of brainstate 0.1.3. Where one of them differs from its source the source is followed, and
``formula="brainstate"`` gives the other.

Source of the method: Neftci, Mostafa and Zenke (2019), Surrogate gradient learning in spiking neural networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .torch_private import in_forward_mode


def may_differentiate() -> bool:
    """Whether a derivative may be asked for: backwards, or forwards, which ``torch.no_grad`` does not switch off."""
    return torch.is_grad_enabled() or in_forward_mode()


def held(x: Tensor) -> Tensor:
    """`x` as a constant, infinities replaced by the largest finite numbers, so that times zero they are zero."""
    largest = torch.finfo(x.dtype).max
    return x.detach().clamp(-largest, largest)


class _StraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, through: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad

    @staticmethod
    def jvp(ctx: Any, _: Tensor | None, tangent: Tensor) -> Tensor:
        return tangent.clone()


def straight_through(value: Tensor, through: Tensor) -> Tensor:
    """Exactly `value`, with the gradient of `through`, which has the same shape."""
    if torch.compiler.is_compiling() and may_differentiate():  # torch.compile and torch.export see no jvp
        through = through.nan_to_num()  # so that the difference below is zero
        return value.detach() + (through - through.detach())
    return _StraightThrough.apply(value, through) if may_differentiate() else value


@dataclass(frozen=True)
class Surrogate:
    """Base of the spike functions: call it with x = (V - V_th) / scale."""

    _: KW_ONLY
    formula: Literal["standard", "brainstate"] = "standard"

    def __post_init__(self) -> None:
        if self.formula not in ("standard", "brainstate"):
            raise ValueError(f"{type(self).__name__}: formula must be 'standard' or 'brainstate', got {self.formula!r}")

    def __call__(self, x: Tensor) -> Tensor:
        """1 where x >= 0, else 0, in the dtype of `x`."""
        spike = (x >= 0).to(x.dtype)
        if not may_differentiate():
            return spike
        return straight_through(spike, self.slope(held(x)) * x)

    def slope(self, x: Tensor) -> Tensor:
        """The surrogate derivative s(x)."""
        raise NotImplementedError


def _normal(x: Tensor, mean: float, sigma: float) -> Tensor:
    return torch.exp(-((x - mean) ** 2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    r"""$s = \alpha\,S(\alpha x)(1 - S(\alpha x))$ with the logistic function S."""

    alpha: float = 4.0

    def slope(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(self.alpha * x)
        return self.alpha * p * (1 - p)


@dataclass(frozen=True)
class PiecewiseQuadratic(Surrogate):
    r"""$s = \alpha - \alpha^2 |x|$ for $|x| \le 1/\alpha$, else 0 (brainstate: $\alpha - (\alpha x)^2$).

    Esser et al. (2016); Bellec et al. (2018).
    """

    alpha: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        if self.formula == "brainstate":
            inside = self.alpha - (self.alpha * x) ** 2
        else:
            inside = self.alpha - self.alpha**2 * x.abs()
        return torch.where(x.abs() > 1 / self.alpha, 0.0, inside)


@dataclass(frozen=True)
class PiecewiseExp(Surrogate):
    r"""$s = \tfrac{\alpha}{2} e^{-\alpha |x|}$. Neftci et al. (2019)."""

    alpha: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self.alpha / 2 * torch.exp(-self.alpha * x.abs())


@dataclass(frozen=True)
class SoftSign(Surrogate):
    r"""$s = \tfrac{\alpha}{2} / (1 + \alpha |x|)^2$."""

    alpha: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + self.alpha * x.abs()) ** 2


@dataclass(frozen=True)
class Arctan(Surrogate):
    r"""$s = \tfrac{\alpha}{2} / (1 + (\tfrac{\pi}{2} \alpha x)^2)$. Fang et al. (2021)."""

    alpha: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self.alpha / 2 / (1 + (math.pi / 2 * self.alpha * x) ** 2)


@dataclass(frozen=True)
class NonzeroSignLog(Surrogate):
    r"""$s = 1 / (1/\alpha + |x|)$."""

    alpha: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return 1 / (1 / self.alpha + x.abs())


@dataclass(frozen=True)
class ERF(Surrogate):
    r"""$s = \tfrac{\alpha}{\sqrt\pi} e^{-(\alpha x)^2}$. Esser et al. (2015); Wu et al. (2018)."""

    alpha: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return self.alpha / math.sqrt(math.pi) * torch.exp(-((self.alpha * x) ** 2))


@dataclass(frozen=True)
class PiecewiseLeakyRelu(Surrogate):
    r"""$s = 1/w$ for $|x| \le w$, else $c$. Wu et al. (2018)."""

    c: float = 0.01
    w: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() > self.w, torch.full_like(x, self.c), 1 / self.w)


@dataclass(frozen=True)
class SquarewaveFourierSeries(Surrogate):
    r"""$s = \tfrac4T [\cos\omega x + \sum_{i=2}^{n-1} \cos((2i - 1)\omega x)]$, $\omega = 2\pi/T$."""

    n: int = 2
    t_period: float = 8.0

    def slope(self, x: Tensor) -> Tensor:
        w = 2 * math.pi / self.t_period
        total = torch.cos(w * x)
        for i in range(2, self.n):
            total = total + torch.cos((2 * i - 1) * w * x)
        return 4 / self.t_period * total


@dataclass(frozen=True)
class S2NN(Surrogate):
    r"""$s = \alpha S(\alpha x)(1 - S(\alpha x))$ for $x < 0$, else $\beta / (x + 1)$. Suetake et al. (2022).

    `epsilon` regularises only the primitive of s and does not enter the slope.
    """

    alpha: float = 4.0
    beta: float = 1.0
    epsilon: float = 1e-8

    def slope(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(self.alpha * x)
        return torch.where(x < 0, self.alpha * p * (1 - p), self.beta / (x.clamp(min=0) + 1))


@dataclass(frozen=True)
class QPseudoSpike(Surrogate):
    r"""$s = (1 + \tfrac{2}{\alpha - 1}|x|)^{-\alpha}$, $\alpha > 1$ (brainstate: $\alpha + 1$ in the fraction).

    Herranz-Celotti and Rouat (2022).
    """

    alpha: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.formula == "standard" and self.alpha <= 1:
            raise ValueError(f"QPseudoSpike: alpha must exceed 1, got {self.alpha}")

    def slope(self, x: Tensor) -> Tensor:
        q = self.alpha + 1 if self.formula == "brainstate" else self.alpha - 1
        return (1 + 2 / q * x.abs()) ** -self.alpha


@dataclass(frozen=True)
class LeakyRelu(Surrogate):
    r"""$s = \alpha$ for $x < 0$, else $\beta$."""

    alpha: float = 0.1
    beta: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return torch.where(x < 0, torch.full_like(x, self.alpha), self.beta)


@dataclass(frozen=True)
class LogTailedRelu(Surrogate):
    r"""$s = \alpha$ for $x \le 0$, 1 up to $x = 1$, then $1/x$. Cai et al. (2017)."""

    alpha: float = 0.0

    def slope(self, x: Tensor) -> Tensor:
        return torch.where(x > 1, 1 / x.clamp(min=1), torch.where(x > 0, torch.ones_like(x), self.alpha))


@dataclass(frozen=True)
class ReluGrad(Surrogate):
    r"""$s = \max(0, \alpha (w - |x|))$, a triangle of half-width w. Bellec et al. (2018)."""

    alpha: float = 0.3
    width: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return torch.relu(self.alpha * self.width - self.alpha * x.abs())


@dataclass(frozen=True)
class GaussianGrad(Surrogate):
    r"""$s = \alpha\,\mathcal N(x; 0, \sigma)$ (brainstate: the exponent is multiplied by $\sigma^2$).

    Yin, Corradi and Bohte (2021).
    """

    sigma: float = 0.5
    alpha: float = 0.5

    def slope(self, x: Tensor) -> Tensor:
        if self.formula == "brainstate":
            return self.alpha * torch.exp(-(x**2) / 2 * self.sigma**2) / (math.sqrt(2 * math.pi) * self.sigma)
        return self.alpha * _normal(x, 0.0, self.sigma)


@dataclass(frozen=True)
class MultiGaussianGrad(Surrogate):
    r"""$s = \gamma[(1+h)\mathcal N(x;0,\sigma) - h\mathcal N(x;\sigma,s\sigma) - h\mathcal N(x;-\sigma,s\sigma)]$.

    Yin, Corradi and Bohte (2021).
    """

    h: float = 0.15
    s: float = 6.0
    sigma: float = 0.5
    scale: float = 0.5

    def slope(self, x: Tensor) -> Tensor:
        wide = _normal(x, self.sigma, self.s * self.sigma) + _normal(x, -self.sigma, self.s * self.sigma)
        return self.scale * ((1 + self.h) * _normal(x, 0.0, self.sigma) - self.h * wide)


@dataclass(frozen=True)
class InvSquareGrad(Surrogate):
    r"""$s = 1 / (\alpha |x| + 1)^2$. Zenke and Ganguli (2018)."""

    alpha: float = 100.0

    def slope(self, x: Tensor) -> Tensor:
        return 1 / (self.alpha * x.abs() + 1) ** 2


@dataclass(frozen=True)
class SlayerGrad(Surrogate):
    r"""$s = e^{-\alpha |x|}$. Shrestha and Orchard (2018)."""

    alpha: float = 1.0

    def slope(self, x: Tensor) -> Tensor:
        return torch.exp(-self.alpha * x.abs())


#: Of spiking neurons. Its slope has long tails, so that a neuron far from its threshold learns as well, and the
#: integral 1, so that gradients keep their size from layer to layer; docs/neurons.md has what was measured.
DEFAULT = SoftSign(alpha=5.0)


def check_surrogate(given: Any, label: str) -> Callable[[Tensor], Tensor]:
    """`given`, if it can be called with a tensor; `label` names the model in errors.

    Raises:
        TypeError: a name or a class, or something else that is no function.
    """
    if callable(given) and not isinstance(given, type):
        return given  # type: ignore[return-value]
    kinds = [name for name, kind in globals().items() if isinstance(kind, type) and issubclass(kind, Surrogate)]
    name = given.__name__ if isinstance(given, type) else given
    near = [kind for kind in kinds if isinstance(name, str) and kind.lower() == name.lower().replace("_", "")]
    got = f"the class {name}" if isinstance(given, type) else repr(given)
    example = (near or ["Arctan"])[0]
    raise TypeError(
        f"{label}: surrogate must be a function of a tensor, such as an instance of a class in nd.surrogate, "
        f"got {got}; write surrogate=nd.surrogate.{example}()"
    )
