"""Finding out which shapes of a product give each row the same bits."""

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK_ROWS = 256
"""Products of more rows are cut into blocks of this many: what was tried is what runs."""

_TRIED = (*range(1, 18), 23, 24, 31, 32, 33, 47, 64, 100, 128, 200)
_FIRST = (0, 5)
"""Rows are tried from these places on: the first row's address decides which code runs, not only the count."""

Product = Callable[[Tensor, Tensor], Tensor]


def least_rows(product: Callable[[Tensor], Tensor], rows: Tensor) -> int | None:
    """Return the least count from which on every tried count of rows gives the bits of `BLOCK_ROWS` rows.

    Args:
        product: takes [n, ...] to [n, ...], row by row in exact arithmetic.
        rows: [BLOCK_ROWS, ...] to try with.

    Returns:
        the count, or None where even large counts differ.
    """
    reference = product(rows)
    least = None
    for count in reversed(_TRIED):
        for first in _FIRST:
            part = slice(first, first + count)
            if not same_bits(product(rows[part]), reference[part]):
                return least
        least = count
    return least


def shared_like_single(single: Product, shared: Product, left: Tensor, right: Tensor) -> bool:
    """Return whether a product of many rows with one matrix has the bits of each row's own product.

    Args:
        single: takes [R, h, a] and [R, a, b] to [R, h, b].
        shared: takes [R, h, a] and [1, a, b] to [R, h, b].
        left: [R, h, a].
        right: [1, a, b].
    """
    reference = single(left, right.expand(left.shape[0], -1, -1))
    for count in (2, 3, 5, 8, 13, left.shape[0]):
        for first in _FIRST:
            part = slice(first, first + count)
            if not same_bits(shared(left[part], right), reference[part]):
                return False
    return all(same_bits(single(left[i : i + 1], right), reference[i : i + 1]) for i in range(left.shape[0]))


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Return whether two tensors of one type hold the same bits."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[left.element_size()]
    return torch.equal(left.contiguous().view(integers), right.contiguous().view(integers))


def probe_values(*shape: int, dtype: torch.dtype, device: torch.device, seed: int = 5) -> Tensor:
    """Return numbers of mixed sizes and signs, the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype).to(device)
