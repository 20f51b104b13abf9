"""Latent attention in its absorbed form: the cache is never expanded to heads."""

from collections.abc import Iterator

import torch
from torch import Tensor

from glm5_model.kernels import Kernels

BUDGET = 4 << 20
"""Numbers (not bytes) of the largest temporary tensor; longer work is cut into rows."""


def attend(
    queries: Tensor, latent: Tensor, slots: Tensor, counts: Tensor, rank: int, split: int, kernels: Kernels
) -> Tensor:
    """Return each row's weighted latent.

    Args:
        queries: [R, heads, width] float32, in the latent space and scaled.
        latent: [all slots, width], a layer's cache.
        slots: [1 or R, L] int64, L a multiple of `split`; one line serves all rows.
        counts: [R] int64, how many of a row's slots it sees; the rest is masked.
        rank: the first numbers of a latent row, which are its value.
        split: slots of one split.
        kernels: how to multiply.

    Returns:
        [R, heads, rank] float32.
    """
    outputs = [
        _attend_rows(
            queries[part], latent, slots if slots.shape[0] == 1 else slots[part], counts[part], rank, split, kernels
        )
        for part in row_parts(queries.shape[0], _numbers_per_row(queries, slots))
    ]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def row_parts(rows: int, numbers_per_row: int) -> Iterator[slice]:
    """Yield slices of `rows` rows of which each takes at most `BUDGET` numbers, and at least one row."""
    step = max(1, BUDGET // max(1, numbers_per_row))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def _numbers_per_row(queries: Tensor, slots: Tensor) -> int:
    """Return the size of a row's scores and, where each row has its own list, of its gathered cache."""
    _, heads, width = queries.shape
    return int(slots.shape[1]) * (2 * heads + (width if slots.shape[0] > 1 else 0))


def _attend_rows(
    queries: Tensor, latent: Tensor, slots: Tensor, counts: Tensor, rank: int, split: int, kernels: Kernels
) -> Tensor:
    """Return `attend` of few enough rows.

    The largest score is exact whatever the order; sums go split by split, and a masked slot adds an exact zero.
    """
    lines, length = slots.shape
    keys = latent.index_select(0, slots.flatten()).view(lines, length, -1).to(torch.float32)
    parts = [keys[:, first : first + split] for first in range(0, length, split)]
    scores = torch.cat([kernels.scores(queries, part) for part in parts], dim=-1)  # [R, heads, L]
    unseen = torch.arange(length, device=slots.device) >= counts[:, None]  # [R, L]
    scores.masked_fill_(unseen[:, None, :], float("-inf"))
    shares = torch.exp_(scores.sub_(scores.amax(-1, keepdim=True)))
    sums = shares.view(*shares.shape[:2], -1, split).sum(-1)  # [R, heads, splits]
    total, mixed = sums[..., :1], kernels.mix(shares[..., :split], parts[0][..., :rank])
    for number, part in enumerate(parts[1:], 1):
        total = total + sums[..., number : number + 1]
        mixed += kernels.mix(shares[..., number * split : (number + 1) * split], part[..., :rank])
    return mixed.div_(total)
