"""Dropout with one mask for a whole sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.dynamics import Dynamics
from ..core.fields import State, state


class FixedDropout(Dynamics):
    r"""Dropout whose mask is drawn at `reset_state` and kept over time: $y = mask \odot x$.

    Entries of the mask are 0 with probability `prob`, else 1 / (1 - prob), independent over batch and neurons; they
    are drawn from torch's generator (``torch.manual_seed``). In eval mode the input passes unchanged. `unroll` resets,
    so each sequence gets a new mask; a spike train keeps its silenced neurons for all of its length.

    Input: ``(*batch, *size)``. Output: the same shape. State: mask; `mask_initializer` (1) is a factor of it.

    Args:
        size: shape of the population.
        prob: probability to drop, as in ``torch.nn.Dropout`` (0.5).
        values: further keywords of `Dynamics`.

    Example:
        >>> ys = nd.unroll(nd.FixedDropout(100), torch.ones(20, 100), compile=False)
        >>> bool((ys == ys[0]).all()), ys.unique().tolist()
        (True, [0.0, 2.0])

    Source: Lee, Sarwar, Panda, Srinivasan and Roy (2020), Enabling spike-based backpropagation for training deep
    neural network architectures, Frontiers in Neuroscience 14.
    """

    may_have_batch = False

    mask: State = state(default=1.0, alias="mask_initializer")

    def __init__(self, size: int | tuple[int, ...], prob: float = 0.5, **values: Any):
        super().__init__(size, **values)
        if not 0 <= prob <= 1:
            raise ValueError(f"{self._label()}: prob, the probability to drop, must be between 0 and 1, got {prob!r}")
        self.prob = prob

    def reset_state(self, *batch: int) -> None:
        """Draw a new mask, with shape ``(*batch, *size)``."""
        super().reset_state(*batch)
        kept = torch.empty_like(self.mask).bernoulli_(1 - self.prob)
        self._buffers["mask"] = self.mask * kept / (1 - self.prob if self.prob < 1 else 1)

    def step(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return x * mask if self.training else x, mask

    def extra_repr(self) -> str:
        """Size, prob and dt."""
        return f"{', '.join(map(str, self.size))}, prob={self.prob:g}, dt={self.dt:g} ms"
