"""A computed value that refuses to be written to, because what it is computed from would not change."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

#: In place, and no change of the numbers.
_HARMLESS = {"requires_grad_", "detach_", "share_memory_", "rename_"}
_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")


class ReadOnly(Tensor):
    """A tensor without methods that write in place; `read_only` makes one.

    What is computed from it is a plain tensor, and `clone` is one that may be written to. ``layer.tau += 1`` computes a
    new one and assigns it.
    """

    __torch_function__ = nn.Parameter.__torch_function__  # type: ignore[assignment]  # no detour for operations
    why: str

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return read_only(Tensor.data.__get__(self), self.why)  # type: ignore[attr-defined]

    @data.setter
    def data(self, value: Any) -> None:
        self._refuse()

    def detach(self) -> Tensor:  # type: ignore[override]
        return read_only(super().detach(), self.why)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise RuntimeError(self.why)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.clone().__deepcopy__(memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.clone().__reduce_ex__(protocol)

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return self.clone().__repr__(**options)


for _name in dir(Tensor):
    if _name.endswith("_") and not _name.startswith("_") and _name not in _HARMLESS:
        setattr(ReadOnly, _name, ReadOnly._refuse)
ReadOnly.__setitem__ = ReadOnly._refuse  # type: ignore[method-assign]
for _name in _OPERATORS:
    setattr(ReadOnly, f"__i{_name}__", getattr(Tensor, f"__{_name}__"))


def read_only(value: Tensor, why: str) -> Tensor:
    """`value` itself, which from now on refuses to be written to and says why; as it is where something is traced."""
    if type(value) is Tensor and not torch.compiler.is_compiling():
        value.__class__ = ReadOnly
        value.why = why  # type: ignore[attr-defined]
    return value
