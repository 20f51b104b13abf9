"""Picking kernels and an element type for this machine."""

import torch

from glm5_model.errors import NumericsError
from glm5_model.kernels.base import Kernels
from glm5_model.kernels.device import device_of
from glm5_model.kernels.invariant import InvariantKernels
from glm5_model.kernels.native.kernels import NativeKernels
from glm5_model.kernels.native.library import library

_NUMERICS = {"invariant": InvariantKernels, "fast": Kernels}
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def kernels_for(device: str, numerics: str, dtype: torch.dtype) -> Kernels:
    """Return the kernels of `device` ("cpu", "cuda", "npu", with or without an index) for `numerics`.

    Float32 on one thread of a CPU has compiled kernels, which serve both kinds.

    Raises:
        DeviceError: there are no kernels for `device`, or this process has no such device.
        NumericsError: `numerics` is neither "invariant" nor "fast".
    """
    if numerics not in _NUMERICS:
        raise NumericsError(f"numerics {numerics!r} is not known; set it to 'invariant' or 'fast'")
    found = device_of(device)
    if found.type == "cpu" and dtype == torch.float32 and torch.get_num_threads() == 1 and (compiled := library()):
        return NativeKernels(compiled, numerics)
    return _NUMERICS[numerics](found, dtype)


def resolve_dtype(name: str, device: str = "cpu") -> torch.dtype:
    """Return the element type called `name`.

    "auto" is float32 on a CPU with compiled kernels: they read bfloat16 weights as they are, and exact sums cost little
    where memory is the bound. Elsewhere it is bfloat16 where the device has products of its own for it (without them it
    is about 7 times slower than float32). Both are facts of the machine and not measurements: processes of one
    deployment that start on a busy machine must not come to different answers, for then they could not talk.

    Raises:
        DeviceError: as `kernels_for`.
        NumericsError: `name` is none of "auto", "float32", "bfloat16".
    """
    if name in _TYPES:
        return _TYPES[name]
    if name != "auto":
        raise NumericsError(f"dtype {name!r} is not known; set it to one of auto, {', '.join(_TYPES)}")
    return torch.bfloat16 if _prefers_bfloat16(device_of(device)) else torch.float32


def _prefers_bfloat16(device: torch.device) -> bool:
    """Return whether products of bfloat16 are the best that the device has."""
    if device.type != "cpu":
        return True
    if library():
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
