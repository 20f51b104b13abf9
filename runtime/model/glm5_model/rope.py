"""Rotary positions, adjacent pairs; the result lies de-interleaved: even parts, then odd parts."""

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
        self._cos = self._sin = torch.empty(0, dim // 2, dtype=dtype, device=device)

    def at(self, positions: Tensor, last: int) -> tuple[Tensor, Tensor]:
        """Return cosine and sine for `positions` [N] of which none is above `last`, two [N, dim / 2]."""
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
            cos.append(angles.cos().to(self._dtype))
            sin.append(angles.sin().to(self._dtype))
        self._cos, self._sin = torch.cat(cos), torch.cat(sin)


def rotate(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return `values` [..., dim] rotated by cos and sin [..., dim / 2] (broadcast), [..., dim]."""
    even, odd = values[..., 0::2], values[..., 1::2]
    return torch.cat([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
