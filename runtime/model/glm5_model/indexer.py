"""The lightning indexer: which cached positions a sparse row attends to."""

import torch
from torch import Tensor

from glm5_model.attention import BUDGET, row_parts
from glm5_model.cache import PAGE_SIZE
from glm5_model.kernels import Kernels
from glm5_model.layout import Group
from glm5_model.top_k import top_k_ascending


def select(
    queries: Tensor, weights: Tensor, keys: Tensor, group: Group, index_topk: int, width: int, kernels: Kernels
) -> Tensor:
    """Return the cache slots of each row's `index_topk` best positions, in ascending order of position.

    Args:
        queries: [R, index heads, index_head_dim] float32, rotated.
        weights: [R, index heads] float32, scaled.
        keys: [all slots, index_head_dim], a full layer's index keys.
        group: the R rows, each of a position of at least `index_topk`.
        index_topk: how many.
        width: of the answer, at least `index_topk`.
        kernels: how to multiply.

    Returns:
        [R, width] int64; what fills up is a slot of the row's own sequence.
    """
    chosen = []
    for part in row_parts(queries.shape[0], 2 * group.span.shape[0]):
        scores = index_scores(queries[part], weights[part], keys, group, part, kernels)
        best = top_k_ascending(scores, index_topk)  # [R, K]
        chosen.append(group.slots(part, best))
    slots = chosen[0] if len(chosen) == 1 else torch.cat(chosen)
    return slots if width == index_topk else torch.cat([slots, slots[:, :1].expand(-1, width - index_topk)], dim=1)


def index_scores(queries: Tensor, weights: Tensor, keys: Tensor, group: Group, part: slice, kernels: Kernels) -> Tensor:
    """Return sum over heads of weight * relu(query . key) for each row and position, -inf after the row's own.

    Args:
        queries: [R, index heads, index_head_dim] float32, of the rows in `part`.
        weights: [R, index heads] float32, of the rows in `part`.
        keys: [all slots, index_head_dim].
        group: the rows and their L positions.
        part: which of the group's rows.
        kernels: how to multiply.

    Returns:
        [R, L] float32.
    """
    rows, heads, width = queries.shape
    pages = keys.view(-1, PAGE_SIZE * width)
    shared = group.pages.shape[0] == 1
    lines = group.pages if shared else group.pages[part]
    step = kernels.index_step(heads, width, BUDGET // (rows * (heads + (0 if shared else width))))
    scored = []
    for first in range(0, lines.shape[1], step // PAGE_SIZE):
        some = lines[:, first : first + step // PAGE_SIZE]
        rows_of_keys = pages.index_select(0, some.flatten()).view(some.shape[0], -1, width).to(torch.float32)
        scores = kernels.scores(queries, rows_of_keys).relu_()  # [R, heads, step]
        scored.append(kernels.mix(weights[:, None], scores).squeeze(1))  # [R, step]
    joined = scored[0] if len(scored) == 1 else torch.cat(scored, dim=-1)
    # Before the choice: a later position must not take the place of an earlier one.
    return joined.masked_fill_(group.later(part), float("-inf"))
