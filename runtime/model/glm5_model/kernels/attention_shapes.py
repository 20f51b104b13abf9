"""Which shapes of the attention's products keep the bits of a single row, tried out once per shape."""

import torch
from torch import Tensor

from glm5_model.kernels.base import PAGE, Kernels
from glm5_model.kernels.probe import probe_values, same_bits, shared_like_single

_INDEX_STEP = 256
"""Keys scored at once where their number shows in the bits."""
_LONGEST = 2048
_ROWS = 18


class AttentionShapes:
    """Answers for one device; the plain kernels are what is tried. All float32: attention never computes in less."""

    def __init__(self, device: torch.device) -> None:
        """Start without knowing any shape."""
        self._device = device
        self._plain = Kernels(device, torch.float32)
        self._shared: dict[tuple[str, int, int, int], bool] = {}
        self._multiples: dict[tuple[int, int], int] = {}

    def scores_may_share(self, heads: int, keys: Tensor) -> bool:
        """Return whether one product of all rows' heads with shared `keys` [1, S, w] keeps each row's bits."""
        key = ("scores", heads, keys.shape[1], keys.shape[2])
        if key not in self._shared:
            queries, tried = self._values(_ROWS, heads, key[3]), self._values(1, key[2], key[3])
            self._shared[key] = shared_like_single(
                lambda left, right: torch.bmm(left, right.transpose(1, 2)), self._plain.scores, queries, tried
            )
        return self._shared[key]

    def mix_may_share(self, heads: int, values: Tensor) -> bool:
        """Return whether one product of all rows' heads with shared `values` [1, S, c] keeps each row's bits."""
        key = ("mix", heads, values.shape[1], values.shape[2])
        if key not in self._shared:
            # Wider rows, of which the product takes the first numbers: so the cache's rows lie.
            wide = self._values(1, key[2], key[3] + values.stride(1) % key[3])
            shares = self._values(_ROWS, heads, key[2])
            self._shared[key] = shared_like_single(torch.bmm, self._plain.mix, shares, wide[..., : key[3]])
        return self._shared[key]

    def index_multiple(self, heads: int, width: int) -> int:
        """Return a page if the number of keys scored at once never shows in the bits, else the one fixed number."""
        key = (heads, width)
        if key not in self._multiples:
            self._multiples[key] = PAGE if self._any_length(heads, width) else _INDEX_STEP
        return self._multiples[key]

    def _any_length(self, heads: int, width: int) -> bool:
        """Return whether scores and their sums over heads are the same whatever the number of keys."""
        queries, keys = self._values(3, heads, width), self._values(3, _LONGEST, width)
        weights = self._values(3, 1, heads)

        def scored(length: int) -> tuple[Tensor, Tensor]:
            scores = self._plain.scores(queries, keys[:, :length].contiguous()).relu_()
            return scores, self._plain.mix(weights, scores)

        reference = scored(_LONGEST)
        return all(
            same_bits(ours, theirs[..., :length])
            for length in (*range(PAGE, 9 * PAGE, PAGE), 1024, 1984)
            for ours, theirs in zip(scored(length), reference, strict=True)
        )

    def _values(self, *shape: int) -> Tensor:
        """Return probe numbers of a shape."""
        return probe_values(*shape, dtype=torch.float32, device=self._device)
