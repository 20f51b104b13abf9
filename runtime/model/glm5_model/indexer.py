"""The lightning indexer: which cached positions a sparse row attends to."""

import torch
from torch import Tensor

from glm5_model.attention import row_parts
from glm5_model.kernels import Kernels
from glm5_model.layout import Group, padded
from glm5_model.top_k import top_k_ascending


def select(
    queries: Tensor, weights: Tensor, keys: Tensor, group: Group, index_topk: int, split: int, kernels: Kernels
) -> Tensor:
    """Return the cache slots of each row's `index_topk` best positions, in ascending order of position.

    Args:
        queries: [R, index heads, index_head_dim] float32, rotated.
        weights: [R, index heads] float32, scaled.
        keys: [all slots, index_head_dim], a full layer's index keys.
        group: the R rows, each of a position of at least `index_topk`.
        index_topk: how many.
        split: keys scored at once; the answer's width is a multiple of it.
        kernels: how to multiply.

    Returns:
        [R, index_topk padded to the split] int64; what pads it is a slot of the row's own sequence.
    """
    heads = queries.shape[1]
    per_row = max(2 * group.slots.shape[1], heads * split)
    chosen = [
        _select_rows(queries[part], weights[part], keys, group.part(part.start, part.stop), index_topk, split, kernels)
        for part in row_parts(queries.shape[0], per_row)
    ]
    return chosen[0] if len(chosen) == 1 else torch.cat(chosen)


def _select_rows(
    queries: Tensor, weights: Tensor, keys: Tensor, group: Group, index_topk: int, split: int, kernels: Kernels
) -> Tensor:
    """Return `select` of few enough rows."""
    rows = queries.shape[0]
    scores = index_scores(queries, weights, keys, group, split, kernels)
    best = top_k_ascending(scores, index_topk)  # [R, K]
    slots = group.slots.expand(rows, -1)
    filled = slots[:, :1].repeat(1, padded(index_topk, split))
    filled[:, :index_topk] = slots.gather(1, best)
    return filled


def index_scores(queries: Tensor, weights: Tensor, keys: Tensor, group: Group, split: int, kernels: Kernels) -> Tensor:
    """Return sum over heads of weight * relu(query . key) for each row and position, -inf after the row's own.

    Returns:
        [R, L] float32 for the group's L slots.
    """
    lines, length = group.slots.shape
    parts = []
    for first in range(0, length, split):
        slots = group.slots[:, first : first + split]
        rows = keys.index_select(0, slots.flatten()).view(lines, split, -1).to(torch.float32)
        scores = torch.relu_(kernels.scores(queries, rows))  # [R, heads, split]
        parts.append(kernels.mix(weights[:, None, :], scores).squeeze(1))  # [R, split]
    scores = torch.cat(parts, dim=-1)
    later = torch.arange(length, device=scores.device) > group.positions[:, None]
    # Before the choice: a later position must not take the place of an earlier one.
    return scores.masked_fill_(later, float("-inf"))
