"""Finding out from how many rows on a product gives each row the same bits."""

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK_ROWS = 256
"""Products of more rows are cut into blocks of this many: what was tried is what runs."""

_TRIED = (*range(1, 18), 23, 24, 31, 32, 33, 47, 64, 100, 128, 200)


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
        # From the middle too: the first row's address decides which code runs, not only the count.
        for first in (0, 5):
            part = slice(first, first + count)
            if not same_bits(product(rows[part]), reference[part]):
                return least
        least = count
    return least


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Return whether two tensors of one type hold the same bits."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[left.element_size()]
    return torch.equal(left.contiguous().view(integers), right.contiguous().view(integers))


def probe_rows(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return [BLOCK_ROWS, *shape] numbers of mixed sizes, the same on every machine."""
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(BLOCK_ROWS, *shape, generator=generator)
    return values.to(dtype).to(device)
