"""Kernels whose every row depends on that row alone.

The library picks other code, with another order of summation, for few rows. So a product is padded up to the count
from which on, tried out on this machine, all counts give the same bits; where there is none, rows go in blocks of one
fixed count. Functions avoid those that the library computes differently in the last elements of a tensor.
"""

import hashlib

import torch
from torch import Tensor

from glm5_model.kernels.attention_shapes import AttentionShapes
from glm5_model.kernels.base import Kernels
from glm5_model.kernels.probe import BLOCK_ROWS, Product, least_rows, probe_values
from glm5_model.kernels.self_test import require_invariance

_FIXED_ROWS = 32
"""Rows of a block where no padding makes a product invariant."""


class InvariantKernels(Kernels):
    """The default numerics: batch, chunking, placement and migration change no bit."""

    numerics = "invariant"

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Start without knowing any shape; each is tried out when it first comes."""
        super().__init__(device, dtype)
        self._least: dict[tuple[torch.dtype, torch.Size], int | None] = {}
        self._shapes = AttentionShapes(device)

    def probes(self) -> list[str]:
        """Return the bits of one product, and the padding it needed."""
        rows = probe_values(BLOCK_ROWS, 192, dtype=self.dtype, device=self.device)
        weight = probe_values(192, 256, dtype=self.dtype, device=self.device)
        bits = self.linear(rows, weight).cpu().view(torch.uint8)
        return [hashlib.sha256(bytes(bits.flatten().tolist())).hexdigest(), str(self._least_of(weight))]

    def self_test(self) -> None:
        """Check on this machine that single rows have the bits they have in a batch.

        Raises:
            NumericsError: one of them does not; this machine can only serve `numerics: fast`.
        """
        require_invariance(self)

    def row_floor(self, weights: list[Tensor]) -> int:
        """Return the rows from which no product with one of `weights` needs padding; 1 where blocks are fixed."""
        return max((self._least_of(weight) or 1 for weight in weights), default=1)

    def index_multiple(self, heads: int, width: int) -> int:
        """Return the multiple of keys to which an index group is filled up."""
        return self._shapes.index_multiple(heads, width)

    def index_step(self, heads: int, width: int, room: int) -> int:
        """Return how many keys to score at once: about `room`, or always the same where it shows in the bits."""
        multiple = self.index_multiple(heads, width)
        return (
            super().index_step(heads, width, room)
            if multiple == Kernels.index_multiple(self, heads, width)
            else multiple
        )

    def linear(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return rows [N, in] times weight [in, out], [N, out]."""
        return self._by_blocks(rows, weight, torch.mm)

    def per_head(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return rows [N, heads, a] times each head's weight [heads, a, b], [N, heads, b]."""
        return self._by_blocks(rows, weight, super().per_head)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return queries [R, heads, w] times keys [R or 1, S, w], [R, heads, S]."""
        if keys.shape[0] == 1 and not self._shapes.scores_may_share(queries.shape[1], keys):
            keys = keys.expand(queries.shape[0], -1, -1)
        return super().scores(queries, keys)

    def mix(self, shares: Tensor, values: Tensor) -> Tensor:
        """Return shares [R, heads, S] times values [R or 1, S, c], [R, heads, c]."""
        if values.shape[0] == 1 and not self._shapes.mix_may_share(shares.shape[1], values):
            values = values.expand(shares.shape[0], -1, -1)
        return super().mix(shares, values)

    def silu(self, values: Tensor) -> Tensor:
        """Return x / (1 + exp(-x)): the library's own silu rounds a tensor's last elements differently (measured)."""
        return values / torch.exp(-values).add_(1)

    def sigmoid(self, values: Tensor) -> Tensor:
        """Return 1 / (1 + exp(-x)), for the same reason."""
        return torch.exp(-values).add_(1).reciprocal_()

    def _by_blocks(self, rows: Tensor, weight: Tensor, product: Product) -> Tensor:
        """Return the product of `rows` in counts that give each row the same bits."""
        count, key = rows.shape[0], (weight.dtype, weight.shape)
        least = self._least[key] if key in self._least else self._least_of(weight)
        if least is not None and least <= count <= BLOCK_ROWS:
            return product(rows, weight)
        block, floor = (BLOCK_ROWS, least) if least is not None else (_FIXED_ROWS, _FIXED_ROWS)
        starts = range(0, max(count, 1), block)
        parts = [_padded(rows[first : first + block], weight, product, floor) for first in starts]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _least_of(self, weight: Tensor) -> int | None:
        """Return the least rows for a weight of this shape, tried out with the weight itself."""
        key = (weight.dtype, weight.shape)
        if key not in self._least:
            width = weight.shape[:-1]
            rows = probe_values(BLOCK_ROWS, *width, dtype=weight.dtype, device=weight.device)
            product = super().per_head if weight.ndim == 3 else torch.mm
            self._least[key] = least_rows(lambda part: product(part, weight), rows)
        return self._least[key]


def _padded(rows: Tensor, weight: Tensor, product: Product, floor: int) -> Tensor:
    """Return the product of at least `floor` rows, cut to those there are."""
    count = rows.shape[0]
    if count >= floor:
        return product(rows, weight)
    filled = rows.new_zeros(floor, *rows.shape[1:])
    filled[:count] = rows
    return product(filled, weight)[:count]
