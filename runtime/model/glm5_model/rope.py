"""Rotary positions. What is rotated lies de-interleaved: the even parts of all pairs, then the odd parts.

Loading reorders the weights' rows so that the products come out like this; scores are the same in either order.
"""

import torch
from torch import Tensor

_BLOCK = 1024


class RopeTable:
    """Cosine and sine of every position so far asked for."""

    def __init__(self, dim: int, theta: float, dtype: torch.dtype, device: torch.device) -> None:
        """Rotate `dim` numbers with base `theta`; the table is in `dtype`, angles are float32."""
        exponents = torch.arange(0, dim, 2, dtype=torch.float32, device=device) / dim
        self._frequencies = 1.0 / theta**exponents
        self._dtype = dtype
        self._cos = self._sin = torch.empty(0, dim, dtype=dtype, device=device)

    def at(self, positions: Tensor, last: int) -> tuple[Tensor, Tensor]:
        """Return factors for `rotate` at `positions` [N] of which none is above `last`, two [N, dim]."""
        while self._cos.shape[0] <= last:
            self._grow()
        return self._cos[positions], self._sin[positions]

    def _grow(self) -> None:
        """Double the table, in blocks of one size: so a position's numbers do not depend on what was asked before."""
        cos, sin = [self._cos], [self._sin]
        begin = self._cos.shape[0]
        for first in range(begin, max(2 * begin, _BLOCK), _BLOCK):
            positions = torch.arange(first, first + _BLOCK, dtype=torch.float32, device=self._cos.device)
            angles = positions[:, None] * self._frequencies  # [block, dim / 2]
            cosine, sine = angles.cos().to(self._dtype), angles.sin().to(self._dtype)
            cos.append(torch.cat([cosine, cosine], dim=-1))
            sin.append(torch.cat([-sine, sine], dim=-1))
        self._cos, self._sin = torch.cat(cos), torch.cat(sin)


def rotate(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `values` [..., dim] rotated by a table's factors, which must broadcast to them."""
    # Two roundings, never a fused multiply-add: the library fuses in some elements of a tensor and not in others.
    return torch.roll(values, values.shape[-1] // 2, -1).mul_(sin).add_(values * cos)


def pairs_apart(dim: int) -> list[int]:
    """Return the order that takes adjacent pairs to even parts, then odd parts."""
    return [*range(0, dim, 2), *range(1, dim, 2)]
