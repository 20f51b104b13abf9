"""The compiled library of the CPU: found, loaded, its functions declared. Sources: `source/`, built with the wheel."""

import ctypes
import functools
import logging
from ctypes import POINTER, Structure, c_float, c_int64, c_void_p, sizeof
from pathlib import Path

import torch
from torch import Tensor

log = logging.getLogger(__name__)

_BUILDS = {"AVX512": "x86_64_v4", "AVX2": "x86_64_v3", "DEFAULT": "aarch64"}
"""What the library that runs beside ours finds on this processor, and our build for it."""


class Weight(Structure):
    """A product's weight [in, out], bfloat16 or float32; of many weights of one shape, the first."""

    _fields_ = (("data", c_void_p), ("in_", c_int64), ("out", c_int64), ("is_bf16", c_int64))


class Attention(Structure):
    """The attention half of a layer."""

    _fields_ = (
        *((name, c_int64) for name in ("q_rank", "rank", "rope", "heads", "nope", "index_heads", "index_dim")),
        *((name, c_float) for name in ("eps", "latent_eps", "index_eps", "scale")),
        *((name, c_void_p) for name in ("input_norm", "q_norm", "kv_norm", "index_weight", "index_bias")),
        *((name, Weight) for name in ("from_hidden", "from_query", "output", "absorb_keys", "expand_values")),
    )


class Rows(Structure):
    """Where the rows of a pass are."""

    _fields_ = (("count", c_int64), ("cosine", c_void_p), ("sine", c_void_p), ("slots", c_void_p))


class Dense(Structure):
    """A group of rows that see all their positions."""

    _fields_ = (
        ("numbers", c_void_p),
        ("positions", c_void_p),
        ("count", c_int64),
        ("pages", c_void_p),
        ("line", c_int64),
    )


class Router(Structure):
    """The router of a sparse layer, with the norm before it."""

    _fields_ = (
        ("norm", c_void_p),
        ("router", Weight),
        ("bias", c_void_p),
        ("chosen", c_int64),
        ("normalised", c_int64),
        ("eps", c_float),
        ("scaling", c_float),
    )


_FUNCTIONS = {
    "glm5_linear": [POINTER(Weight), c_void_p, c_int64, c_void_p, c_int64],
    "glm5_rms_norm": [c_void_p, c_void_p, c_float, c_int64, c_int64, c_void_p],
    "glm5_mlp": [POINTER(Weight), POINTER(Weight), c_void_p, c_int64, c_void_p],
    "glm5_experts": [POINTER(Weight), POINTER(Weight), c_int64, c_void_p, c_int64, *[c_void_p] * 2, c_int64, c_void_p],
    "glm5_project": [POINTER(Attention), POINTER(Rows), *[c_void_p] * 6],
    "glm5_attention": [POINTER(Attention), POINTER(Rows), POINTER(Dense), c_int64, *[c_void_p] * 3],
    "glm5_attend_all": [POINTER(Attention), *[c_void_p] * 4, c_int64, c_void_p, c_int64, c_void_p],
    "glm5_attend_selected": [POINTER(Attention), *[c_void_p] * 3, c_int64, c_void_p, c_int64, c_int64, c_void_p],
    "glm5_project_back": [POINTER(Attention), c_int64, c_void_p, c_void_p],
    "glm5_combine": [c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p],
    "glm5_split_pairs": [c_void_p, c_int64, c_int64, c_void_p, c_int64, c_int64, *[c_void_p] * 3],
    "glm5_fits": [c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64],
    "glm5_route": [POINTER(Router), c_void_p, c_int64, c_void_p, c_void_p, c_void_p],
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """Return the library for this processor, or None where there is none."""
    path = Path(__file__).parent / f"{_BUILDS.get(torch.backends.cpu.get_cpu_capability(), 'none')}.so"
    try:
        return declared(ctypes.CDLL(str(path)))
    except (OSError, AttributeError) as error:
        log.warning("no compiled kernels, everything on the CPU takes several times as long cause=%s", error)
        return None


def declared(found: ctypes.CDLL) -> ctypes.CDLL:
    """Return `found` with the types of its functions.

    Raises:
        AttributeError: it is of other sources.
    """
    found.glm5_sizes.restype = c_int64
    if found.glm5_sizes() != sizeof(Attention) * 1000000 + sizeof(Router) * 1000 + sizeof(Rows) + sizeof(Dense):
        raise AttributeError(f"{found._name} was compiled from other sources; install the project again")
    for name, arguments in _FUNCTIONS.items():
        function = getattr(found, name)
        function.argtypes, function.restype = arguments, None
    for name in ("glm5_experts", "glm5_fits", "glm5_split_pairs"):
        getattr(found, name).restype = c_int64
    return found


def weight(tensor: Tensor) -> Weight:
    """Return `tensor` [..., in, out], which must outlive the answer, as a weight.

    Raises:
        TypeError: it is neither bfloat16 nor float32, or does not lie in one piece.
    """
    if tensor.dtype not in (torch.bfloat16, torch.float32) or not tensor.is_contiguous():
        raise TypeError(f"a weight {list(tensor.shape)} is {tensor.dtype}, contiguous: {tensor.is_contiguous()}")
    return Weight(tensor.data_ptr(), tensor.shape[-2], tensor.shape[-1], tensor.dtype == torch.bfloat16)
