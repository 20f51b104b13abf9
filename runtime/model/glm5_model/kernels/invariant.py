"""Kernels whose every row depends on that row alone.

The library picks other code, with another order of summation, for few rows. So a product is padded up to the count
from which on, tried out on this machine, all counts give the same bits; where there is none, rows go in blocks of one
fixed count. Functions avoid those that the library computes differently in the last elements of a tensor.
"""

import hashlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from glm5_model.errors import NumericsError
from glm5_model.kernels.base import Kernels
from glm5_model.kernels.probe import BLOCK_ROWS, least_rows, probe_rows, same_bits

_FIXED_ROWS = 32
"""Rows of a block where no padding makes a product invariant."""

Shape = tuple[int, ...]


class InvariantKernels(Kernels):
    """The default numerics: batch, chunking, placement and migration change no bit."""

    numerics = "invariant"

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Start without knowing any shape; each is tried out when it first comes."""
        super().__init__(device, dtype)
        self._least: dict[tuple[torch.dtype, Shape], int | None] = {}

    def probes(self) -> list[str]:
        """Return the bits of one product, and the padding it needed."""
        weight = probe_rows((192,), self.dtype, self.device)
        rows = probe_rows((BLOCK_ROWS,), self.dtype, self.device)
        bits = self.linear(rows, weight).cpu().view(torch.uint8)
        return [hashlib.sha256(bits.numpy().tobytes()).hexdigest(), str(self._least_of(weight, torch.mm))]

    def self_test(self) -> None:
        """Check that the functions, reductions and attention products of single rows have the bits of a batch.

        Raises:
            NumericsError: one of them does not; this machine can only serve `numerics: fast`.
        """
        rows = probe_rows((8, 192), torch.float32, self.device)
        keys = probe_rows((64, 192), torch.float32, self.device)[:32]
        trials: dict[str, Callable[[slice], Tensor]] = {
            "exp": lambda part: self.silu(rows[part]),
            "sigmoid": lambda part: self.sigmoid(rows[part]),
            "sum": lambda part: rows[part].sum(-1),
            "rms_norm": lambda part: F.rms_norm(rows[part], (192,)),
            "layer_norm": lambda part: F.layer_norm(rows[part], (192,)),
            "scores": lambda part: self.scores(rows[:32][part], keys[part]),
            "shared scores": lambda part: self.scores(rows[:32][part], keys[:1]),
            "mix": lambda part: self.mix(keys[part], keys[part].transpose(1, 2)[..., :64].transpose(1, 2)),
        }
        for name, trial in trials.items():
            whole = trial(slice(0, 32))
            for part in (slice(0, 1), slice(7, 8), slice(3, 6), slice(5, 28)):
                if not same_bits(trial(part), whole[part]):
                    raise NumericsError(
                        f"{name} of rows {part.start} to {part.stop - 1} depends on the other rows on this machine "
                        f"(torch {torch.__version__}, {self.device}); set numerics to 'fast' or change the build"
                    )

    def row_floor(self, weights: list[Tensor]) -> int:
        """Return the rows from which no product with one of `weights` needs padding; 1 where blocks are fixed."""
        return max((self._least_of(weight, torch.mm) or 1 for weight in weights), default=1)

    def linear(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return rows [N, in] times weight [in, out], [N, out]."""
        return self._by_blocks(rows, weight, torch.mm)

    def per_head(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Return rows [N, heads, a] times each head's weight [heads, a, b], [N, heads, b]."""
        return self._by_blocks(rows, weight, super().per_head)

    def silu(self, values: Tensor) -> Tensor:
        """Return x / (1 + exp(-x)): the library's own silu rounds a tensor's last elements differently (measured)."""
        return values / torch.exp(-values).add_(1)

    def sigmoid(self, values: Tensor) -> Tensor:
        """Return 1 / (1 + exp(-x)), for the same reason."""
        return torch.exp(-values).add_(1).reciprocal_()

    def _by_blocks(self, rows: Tensor, weight: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return the product of `rows` in counts that give each row the same bits."""
        count = rows.shape[0]
        least = self._least_of(weight, product)
        if least is not None and least <= count <= BLOCK_ROWS:
            return product(rows, weight)
        block, floor = (BLOCK_ROWS, least) if least is not None else (_FIXED_ROWS, _FIXED_ROWS)
        parts = [
            self._padded(rows[first : first + block], weight, product, floor)
            for first in range(0, max(count, 1), block)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _padded(self, rows: Tensor, weight: Tensor, product: Callable[[Tensor, Tensor], Tensor], floor: int) -> Tensor:
        """Return the product of at least `floor` rows, cut to those there are."""
        count = rows.shape[0]
        if count >= floor:
            return product(rows, weight)
        filled = rows.new_zeros(floor, *rows.shape[1:])
        filled[:count] = rows
        return product(filled, weight)[:count]

    def _least_of(self, weight: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> int | None:
        """Return the least rows for a weight of this shape, tried out with the weight itself."""
        key = (weight.dtype, tuple(weight.shape))
        if key not in self._least:
            width = weight.shape[:-1] if weight.ndim == 3 else weight.shape[:1]
            rows = probe_rows(tuple(width), weight.dtype, weight.device)
            self._least[key] = least_rows(lambda part: product(part, weight), rows)
        return self._least[key]
