"""The k largest of each row with one answer for ties: the larger score, then the smaller index."""

import torch
from torch import Tensor


def top_k_ascending(scores: Tensor, k: int) -> Tensor:
    """Return the indices of the `k` largest scores of each row, in ascending order of index.

    Args:
        scores: [R, T] float32, T at least k. NaN counts as the least, so that a row's NaN stays its own matter.
        k: how many.

    Returns:
        [R, k] int64. Of equal scores the one with the smaller index is taken.
    """
    rows, width = scores.shape
    if k == width:
        return torch.arange(width, device=scores.device).expand(rows, width)
    least = scores.topk(k, dim=-1).values[:, -1:]  # [R, 1]
    found = (scores >= least).nonzero()  # row by row, ascending
    if found.shape[0] != rows * k:
        found = _chosen(scores, k).nonzero()
    return found[:, 1].view(rows, k)


def _chosen(scores: Tensor, k: int) -> Tensor:
    """Return the mask [R, T] of the k chosen: all above the k-th largest, and the first of those equal to it."""
    scores = scores.nan_to_num(nan=float("-inf"), posinf=float("inf"), neginf=float("-inf"))
    least = scores.topk(k, dim=-1).values[:, -1:]
    above = scores > least
    ties = scores == least
    room = k - above.sum(-1, keepdim=True)
    return above | (ties & (ties.cumsum(-1) <= room))
