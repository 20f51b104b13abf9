"""Picking kernels and an element type for this machine."""

import torch

from glm5_model.errors import NumericsError
from glm5_model.kernels.base import Kernels
from glm5_model.kernels.device import device_of
from glm5_model.kernels.invariant import InvariantKernels

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def kernels_for(device: str, numerics: str, dtype: torch.dtype) -> Kernels:
    """Return the kernels of `device` ("cpu", "cuda", "npu", with or without an index) for `numerics`.

    Raises:
        DeviceError: there are no kernels for `device`, or this process has no such device.
        NumericsError: `numerics` is neither "invariant" nor "fast".
    """
    if numerics == "invariant":
        return InvariantKernels(device_of(device), dtype)
    if numerics == "fast":
        return Kernels(device_of(device), dtype)
    raise NumericsError(f"numerics {numerics!r} is not known; set it to 'invariant' or 'fast'")


def resolve_dtype(name: str, device: str = "cpu") -> torch.dtype:
    """Return the element type called `name`; "auto" is bfloat16 where the device has products of its own for it.

    That is a fact of the processor and not a measurement: processes of one deployment that start on a busy machine
    must not come to different answers, for then they could not talk to each other. (Without such products bfloat16
    is about 7 times slower than float32 on a CPU.)

    Raises:
        DeviceError: as `kernels_for`.
        NumericsError: `name` is none of "auto", "float32", "bfloat16".
    """
    if name in _TYPES:
        return _TYPES[name]
    if name != "auto":
        raise NumericsError(f"dtype {name!r} is not known; set it to one of auto, {', '.join(_TYPES)}")
    return torch.bfloat16 if _multiplies_bfloat16(device_of(device)) else torch.float32


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for products of bfloat16."""
    if device.type != "cpu":
        return True
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
