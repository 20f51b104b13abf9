"""The k largest of each row with one answer for ties: the larger score, then the smaller index."""

import torch
from torch import Tensor


def top_k_ascending(scores: Tensor, k: int) -> Tensor:
    """Return the indices of the `k` largest scores of each row, in ascending order of index.

    Args:
        scores: [R, T] float32, T at least k; no NaN.
        k: how many.

    Returns:
        [R, k] int64. Of equal scores the one with the smaller index is taken.
    """
    rows, width = scores.shape
    if k == width:
        return torch.arange(width, device=scores.device).expand(rows, width)
    least = scores.topk(k, dim=-1, sorted=False).values.amin(-1, keepdim=True)  # [R, 1]: the k-th largest
    chosen = scores >= least
    if int(chosen.sum()) != rows * k:
        chosen = _without_late_ties(scores, least, k)
    return chosen.nonzero()[:, 1].view(rows, k)


def _without_late_ties(scores: Tensor, least: Tensor, k: int) -> Tensor:
    """Return the mask [R, T] of the k chosen: all above `least`, and the first of those equal to it."""
    above = scores > least
    ties = scores == least
    room = k - above.sum(-1, keepdim=True)
    return above | (ties & (ties.cumsum(-1) <= room))
