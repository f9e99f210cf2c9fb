"""The steps of a sequence written out one after the other: for ``torch.export(strict=True)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..core.current import SynapticOutput
from ..core.dynamics import exported_as_pure
from ..core.states import hold_states, named_dynamics, set_states
from ..tools.errors import NotCompilable
from ..torch_private import tree_leaves, tree_map
from .eager import stacked
from .start import reset_as_at_hand


def written_out(net: nn.Module, arguments: tuple[Any, ...], states: Mapping[str, Tensor] | None) -> Any:
    """Call `net` for each step, where torch follows every line of Python; it keeps the states that it has.

    Args:
        arguments: of `net`, each tensor with time in front.
        states: where to start; otherwise from initial states.

    Raises:
        NotCompilable: a synaptic output, such as COBA, whose function of the potential torch does not follow.
    """
    for name, module in net.named_modules():
        if isinstance(module, SynapticOutput):
            raise NotCompilable(
                f"unroll: torch.export with strict=True does not follow {type(module).__name__} {name!r}, which gives "
                "a function of the potential; leave out strict=True"
            )
    restore, layers = hold_states(net), named_dynamics(net)
    if states is not None:
        set_states(net, states)
    elif all([layer.is_set for _, layer in layers]):  # a module may read a state before it calls the layer
        reset_as_at_hand(net, arguments)
    else:
        for _, layer in layers:
            layer.unset_state()
    ys = []
    with exported_as_pure():
        for t in range(tree_leaves(arguments)[0].shape[0]):
            ys.append(net(*tree_map(lambda x, t=t: x[t], arguments)))
    restore()
    return stacked(ys)
