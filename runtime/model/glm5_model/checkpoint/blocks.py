"""Block-FP8: a float32 multiplier for every block of 128 x 128 numbers, the last ones cut off."""

import torch
from torch import Tensor

DEFAULT_BLOCK = (128, 128)


def scale_shape(shape: tuple[int, ...], block: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of the multipliers of a weight of `shape`: rounded up, 576 rows have five block rows."""
    return -(-shape[0] // block[0]), -(-shape[1] // block[1])


def dequantise(weight: Tensor, scale: Tensor, block: tuple[int, int]) -> Tensor:
    """Return `weight` times its blocks' multipliers.

    Args:
        weight: [out, in], float8_e4m3fn.
        scale: [ceil(out / block rows), ceil(in / block columns)], float32.
        block: rows and columns of a block.

    Returns:
        [out, in], float32.
    """
    rows, columns = weight.shape
    full = scale.repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
    return weight.to(torch.float32) * full
