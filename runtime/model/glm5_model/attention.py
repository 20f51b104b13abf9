"""Latent attention in its absorbed form: the cache is never expanded to heads."""

from collections.abc import Iterator

import torch
from torch import Tensor

from glm5_model.cache import PAGE_SIZE
from glm5_model.kernels import Kernels
from glm5_model.layout import Group

BUDGET = 1 << 18
"""Numbers (not bytes) of the largest temporary tensor; longer work is cut into rows. Four times as much is no faster
(measured), and the allocator keeps more of it."""


def attend_all(queries: Tensor, latent: Tensor, group: Group, rank: int, split: int, kernels: Kernels) -> Tensor:
    """Return the weighted latents of rows that see all their positions.

    Args:
        queries: [R, heads, width] float32, in the latent space and scaled.
        latent: [all slots, width], a layer's cache.
        group: the R rows.
        rank: the first numbers of a latent row, which are its value.
        split: cached rows whose shares are summed at once.
        kernels: how to multiply.

    Returns:
        [R, heads, rank] float32.
    """
    rows, heads, width = queries.shape
    pages = latent.view(-1, PAGE_SIZE * width)
    shared = group.pages.shape[0] == 1
    keys = _gathered(pages, group.pages, width) if shared else None
    length = group.span.shape[0]
    outputs = []
    for part in row_parts(rows, length * (2 * heads + (0 if shared else width))):
        seen = keys if keys is not None else _gathered(pages, group.pages[part], width)
        outputs.append(attend(queries[part], seen, group.later(part), rank, split, kernels))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def attend_selected(
    queries: Tensor, latent: Tensor, slots: Tensor, unseen: Tensor | None, rank: int, split: int, kernels: Kernels
) -> Tensor:
    """Return the weighted latents of rows that see a selection.

    Args:
        queries: [R, heads, width] float32, in the latent space and scaled.
        latent: [all slots, width], a layer's cache.
        slots: [R, L] int64, each row's selection in ascending order of position.
        unseen: [1, L] bool, slots that only fill up; None where there are none.
        rank: the first numbers of a latent row, which are its value.
        split: cached rows whose shares are summed at once.
        kernels: how to multiply.

    Returns:
        [R, heads, rank] float32.
    """
    rows, heads, width = queries.shape
    length = slots.shape[1]
    outputs = []
    for part in row_parts(rows, length * (2 * heads + width)):
        keys = _gathered(latent, slots[part], width)
        outputs.append(attend(queries[part], keys, unseen, rank, split, kernels))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def row_parts(rows: int, numbers_per_row: int) -> Iterator[slice]:
    """Yield slices of `rows` rows of which each takes at most `BUDGET` numbers, and at least one row."""
    step = max(1, BUDGET // max(1, numbers_per_row))
    for first in range(0, rows, step):
        yield slice(first, min(first + step, rows))


def attend(queries: Tensor, keys: Tensor, unseen: Tensor | None, rank: int, split: int, kernels: Kernels) -> Tensor:
    """Return the weighted sum of the first `rank` numbers of `keys` [1 or R, L, width], [R, heads, rank].

    The largest score is exact in any order. Shares are summed split by split, and what is unseen adds an exact zero:
    so a row's bits do not depend on how many splits its neighbours need.
    """
    length = keys.shape[1]
    parts = [keys] if length == split else [keys[:, first : first + split] for first in range(0, length, split)]
    scores = [kernels.scores(queries, part) for part in parts]
    joined = scores[0] if len(scores) == 1 else torch.cat(scores, dim=-1)  # [R, heads, L]
    if unseen is not None:
        joined.masked_fill_(unseen[:, None], float("-inf"))
    shares = joined.sub_(joined.amax(-1, keepdim=True)).exp_()
    if len(parts) == 1:
        return kernels.mix(shares, keys[..., :rank]).div_(shares.sum(-1, keepdim=True))
    sums = shares.view(*shares.shape[:2], -1, split).sum(-1)  # [R, heads, splits]
    total, mixed = sums[..., :1], kernels.mix(shares[..., :split], parts[0][..., :rank])
    for number, part in enumerate(parts[1:], 1):
        total = total + sums[..., number : number + 1]
        mixed += kernels.mix(shares[..., number * split : (number + 1) * split], part[..., :rank])
    return mixed.div_(total)


def _gathered(storage: Tensor, indices: Tensor, width: int) -> Tensor:
    """Return rows of `storage` by `indices` [lines, n] as [lines, n * rows per index, width] float32."""
    rows = storage.index_select(0, indices.flatten())
    return rows.view(indices.shape[0], -1, width).to(torch.float32)
