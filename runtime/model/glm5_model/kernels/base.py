"""What the mathematics asks of a machine; this plain version is `fast`."""

import functools
import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor

from glm5_model.kernels.grouped import LayerExperts, grouped_product
from glm5_model.kernels.machine import describe
from glm5_model.norms import rms_norm

PAGE = 64
"""Keys come in pages of this many."""


class Kernels:
    """Products and functions of one device, element type and kind of numerics."""

    numerics = "fast"
    widens = False
    """Whether weights may be bfloat16 where rows are float32."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Serve tensors of `dtype` on `device`."""
        self.device, self.dtype = device, dtype

    @functools.cached_property
    def fingerprint(self) -> str:
        """Return 16 hex digits that are equal where two machines compute the same bits; computed once."""
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

    def index_multiple(self, heads: int, width: int) -> int:
        """Return the multiple of keys to which an index group is filled up; at least a page."""
        return PAGE

    def index_step(self, heads: int, width: int, room: int) -> int:
        """Return how many keys to score at once, a multiple of `index_multiple`, about `room`.

        Args:
            heads: index heads.
            width: index_head_dim.
            room: keys whose scores fit into the memory that may be taken.
        """
        multiple = self.index_multiple(heads, width)
        return max(multiple, room // multiple * multiple)

    def linear(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return rows [N, in] times weight [in, out], [N, out]."""
        return torch.mm(rows, weight)

    def per_head(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return rows [N, heads, a] times each head's weight [heads, a, b], [N, heads, b]."""
        return torch.bmm(rows.transpose(0, 1), weight).transpose(0, 1)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return queries [R, heads, w] times keys [R or 1, S, w], [R, heads, S]."""
        if keys.shape[0] == 1 and queries.shape[0] > 1:
            return torch.mm(queries.flatten(0, 1), keys[0].t()).view(*queries.shape[:2], -1)
        return torch.bmm(queries, keys.transpose(1, 2))

    def mix(self, shares: Tensor, values: Tensor) -> Tensor:
        """Return shares [R, heads, S] times values [R or 1, S, c], [R, heads, c]."""
        if values.shape[0] == 1 and shares.shape[0] > 1:
            return torch.mm(shares.flatten(0, 1), values[0]).view(*shares.shape[:2], -1)
        return torch.bmm(shares, values)

    def rms_norm(self, rows: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Return rows [..., d] normalised and multiplied by `weight` [d]."""
        return rms_norm(rows, weight, eps)

    def mlp(self, rows: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        """Return down(silu(gate(x)) * up(x)), [N, hidden]; `gate_up` [hidden, 2 * width], `down` [width, hidden]."""
        gate, up = self.linear(rows, gate_up).chunk(2, dim=-1)
        return self.linear(self.silu(gate) * up, down)

    def grouped(self, rows: Tensor, pair_rows: Tensor, slots: Tensor, held: LayerExperts) -> Tensor:
        """Return one output for each pair of a row and an expert, as `grouped_product` does, [P, hidden]."""
        return grouped_product(rows, pair_rows, slots, held, self)

    def silu(self, values: Tensor) -> Tensor:
        """Return x * sigmoid(x)."""
        return F.silu(values)

    def sigmoid(self, values: Tensor) -> Tensor:
        """Return 1 / (1 + exp(-x))."""
        return torch.sigmoid(values)
