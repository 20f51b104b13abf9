"""Picking kernels and an element type for this machine."""

import time

import torch

from glm5_model.errors import NumericsError
from glm5_model.kernels.base import Kernels
from glm5_model.kernels.invariant import InvariantKernels

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def kernels_for(device: str, numerics: str, dtype: torch.dtype) -> Kernels:
    """Return the kernels of `device` ("cpu", "cuda", "npu", with or without an index) for `numerics`.

    Raises:
        NumericsError: `numerics` is neither "invariant" nor "fast".
    """
    if numerics == "invariant":
        return InvariantKernels(torch.device(device), dtype)
    if numerics == "fast":
        return Kernels(torch.device(device), dtype)
    raise NumericsError(f"numerics {numerics!r} is not known; set it to 'invariant' or 'fast'")


def resolve_dtype(name: str, device: str = "cpu") -> torch.dtype:
    """Return the element type called `name`; "auto" is the one whose products this machine computes fastest.

    Raises:
        NumericsError: `name` is none of "auto", "float32", "bfloat16".
    """
    if name in _TYPES:
        return _TYPES[name]
    if name != "auto":
        raise NumericsError(f"dtype {name!r} is not known; set it to one of auto, {', '.join(_TYPES)}")
    return min(_TYPES.values(), key=lambda dtype: _seconds(dtype, torch.device(device)))


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    """Return how long a batch of rows and a single row take together, the best of five."""
    weight = torch.ones(1024, 1024, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        for rows in (1, 64):
            result = torch.mm(weight[:rows], weight)
        float(result[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - begin)
    return best
