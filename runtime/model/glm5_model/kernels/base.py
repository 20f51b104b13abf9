"""What the mathematics asks of a machine; this plain version is `fast`."""

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor

from glm5_model.kernels.machine import describe


class Kernels:
    """Products and functions of one device, element type and kind of numerics."""

    numerics = "fast"

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Serve tensors of `dtype` on `device`."""
        self.device, self.dtype = device, dtype

    @property
    def fingerprint(self) -> str:
        """Return 16 hex digits that are equal where two machines compute the same bits."""
        parts = [self.numerics, str(self.dtype), *describe(self.device), *self.probes()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def probes(self) -> list[str]:
        """Return what of the results themselves goes into the fingerprint."""
        return []

    def self_test(self) -> None:
        """Check what this kind of numerics promises; nothing here."""

    def row_floor(self, weights: list[Tensor]) -> int:
        """Return the rows from which no product with one of `weights` [in, out] needs padding."""
        return 1

    def linear(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return rows [N, in] times weight [in, out], [N, out]."""
        return torch.mm(rows, weight)

    def per_head(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return rows [N, heads, a] times each head's weight [heads, a, b], [N, heads, b]."""
        return torch.bmm(rows.transpose(0, 1), weight).transpose(0, 1)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return queries [R, heads, w] times keys [R or 1, S, w], [R, heads, S]."""
        return torch.bmm(queries, keys.expand(queries.shape[0], -1, -1).transpose(1, 2))

    def mix(self, shares: Tensor, values: Tensor) -> Tensor:
        """Return shares [R, heads, S] times values [R or 1, S, c], [R, heads, c]."""
        return torch.bmm(shares, values.expand(shares.shape[0], -1, -1))

    def silu(self, values: Tensor) -> Tensor:
        """Return x * sigmoid(x)."""
        return F.silu(values)

    def sigmoid(self, values: Tensor) -> Tensor:
        """Return 1 / (1 + exp(-x))."""
        return torch.sigmoid(values)
