"""A second device for tests on machines without one: its tensors lie in the CPU's memory, but only it may touch them.

It takes the place that torch keeps for devices of others (there Ascend's torch_npu registers itself), under the name
"npu". An operation that mixes its tensors with the CPU's fails as on a real device, and numpy cannot see them. What it
cannot show: whether a real device's library computes the same, and how fast.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_map_only

_aten = torch.ops.aten
_BRIDGES = {_aten._to_copy.default, _aten.copy_.default}
"""What takes numbers from one device to another."""
_INDICES = {_aten.index.Tensor, _aten.index_put_.default}
"""Indices may come from the CPU, as on other devices."""


class OtherTensor(Tensor):
    """A tensor of the other device."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OtherTensor":
        """Wrap a tensor of the CPU."""
        with torch.inference_mode(False):  # torch wants views to be as normal as what they are views of
            made = Tensor._make_wrapper_subclass(
                cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device="npu"
            )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute on the CPU, and wrap what comes out."""
        kwargs = kwargs or {}
        if function not in _BRIDGES:
            _refuse_mixture(function, args, kwargs)
        device = kwargs.get("device")
        to_cpu = device is not None and torch.device(device).type == "cpu"
        plain = {key: value for key, value in kwargs.items() if key != "device"}
        out = function(*tree_map_only(cls, lambda t: t.inner, args), **tree_map_only(cls, lambda t: t.inner, plain))
        if to_cpu:
            return out
        if function._schema.is_mutable:  # nothing here writes to more than one tensor
            return kwargs.get("out", args[0] if args else None)
        return tree_map_only(Tensor, lambda t: t if isinstance(t, cls) else cls(t), out)


def _refuse_mixture(function: Any, args: Any, kwargs: Any) -> None:
    """Fail where a tensor of the CPU that is not a single number takes part."""
    strangers: list[torch.Size] = []

    def look(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, OtherTensor) and tensor.ndim:
            strangers.append(tensor.shape)
        return tensor

    tree_map_only(Tensor, look, [args[0], args[2:]] if function in _INDICES else [args, kwargs])
    if strangers:
        raise RuntimeError(f"{function}: tensors of two devices, those of the CPU have shapes {strangers}")


class _Module(backend_registration._DummyBackendModule):
    """What torch.npu answers."""

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1


def register() -> None:
    """Add the device "npu" to this process; there is no way back."""
    backend_registration._setup_privateuseone_for_python_backend("npu", _Module())
    library = torch.library.Library("aten", "IMPL")
    _KEPT.append(library)

    def empty(size: Any, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None,
              memory_format: Any = None) -> Tensor:  # fmt: skip
        return OtherTensor(torch.empty(size, dtype=dtype))

    def empty_strided(size: Any, stride: Any, dtype: Any = None, layout: Any = None, device: Any = None,
                      pin_memory: Any = None) -> Tensor:  # fmt: skip
        return OtherTensor(torch.empty_strided(size, stride, dtype=dtype))

    def copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
        plain = [tensor.inner if isinstance(tensor, OtherTensor) else tensor for tensor in (source, target)]
        plain[1].copy_(plain[0])
        return target

    library.impl("_copy_from", copy_from, "PrivateUse1")
    library.impl("empty.memory_format", empty, "PrivateUse1")
    library.impl("empty_strided", empty_strided, "PrivateUse1")


_KEPT: list[torch.library.Library] = []
