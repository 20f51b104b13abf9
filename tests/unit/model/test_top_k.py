"""The choice of the largest has one answer, ties and broken numbers included."""

import pytest
import torch
from torch import Tensor

from glm5_model.top_k import top_k_ascending


def plain(scores: Tensor, k: int) -> list[list[int]]:
    """Return the choice by sorting (larger score first, then smaller index), in ascending order."""
    return [sorted(sorted(range(len(row)), key=lambda i: (-row[i], i))[:k]) for row in scores.tolist()]


@pytest.mark.parametrize("levels", [1, 2, 5, 1000])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_ties_go_to_the_smaller_index(levels: int, k: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    scores = torch.randint(0, levels, (9, 40), generator=generator).float() - 1
    assert top_k_ascending(scores, k).tolist() == plain(scores, k)


def test_positions_that_may_not_be_seen_come_last() -> None:
    scores = torch.tensor([[0.0, -3.0, float("-inf"), 2.0, float("-inf")]])
    assert top_k_ascending(scores, 3).tolist() == [[0, 1, 3]]
    assert top_k_ascending(scores, 4).tolist() == [[0, 1, 2, 3]]


def test_a_row_of_nan_does_not_spoil_its_neighbours() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(3, 30, generator=generator)
    expected = plain(scores, 8)
    scores[1] = float("nan")
    chosen = top_k_ascending(scores, 8).tolist()
    assert chosen[0] == expected[0]
    assert chosen[2] == expected[2]
    assert len(set(chosen[1])) == 8
