"""Block-FP8 as on the hub: one float32 multiplier for each square of a weight."""

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = 448.0  # the largest finite float8_e4m3fn

# The last part but one of the names that are quantised; embeddings, router, norms, weights_proj and eh_proj are not.
QUANTISED = frozenset(
    [
        "q_a_proj",
        "q_b_proj",
        "kv_a_proj_with_mqa",
        "kv_b_proj",
        "o_proj",
        "wq_b",
        "wk",
        "gate_proj",
        "up_proj",
        "down_proj",
    ]
)


def is_quantised(name: str) -> bool:
    """Tell whether the FP8 builds store the tensor `name` in FP8."""
    return name.endswith(".weight") and name.split(".")[-2] in QUANTISED


def quantise(weight: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Return the weight in FP8 and its scales; weight is about fp8 times scale, block by block.

    Args:
        weight: [out, in], floating point.
        block: rows and columns that share one scale; the last blocks may be partial.

    Returns:
        [out, in] float8_e4m3fn, and [ceil(out / block), ceil(in / block)] float32.
    """
    rows, columns = weight.shape
    padded = F.pad(weight.float(), (0, -columns % block, 0, -rows % block))
    high, wide = padded.shape
    squares = padded.reshape(high // block, block, wide // block, block)  # [R, block, C, block]
    largest = squares.abs().amax(dim=(1, 3), keepdim=True)
    scale = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    values = (squares / scale).reshape(high, wide)[:rows, :columns]
    return values.contiguous().to(torch.float8_e4m3fn), scale[:, 0, :, 0].contiguous()
