"""What one forward pass is asked to compute."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Wanted = Literal["none", "last", "all"]


@dataclass
class SequenceRows:
    """New rows of one sequence: a prompt chunk, one decode token, or anything between."""

    token_ids: Tensor
    """[n] int64, n at least 1."""
    start: int
    """Position of the first row; the rows before it are in the cache."""
    page_table: Tensor
    """[at least ceil((start + n) / PAGE_SIZE)] int64, the sequence's pages in order."""
    logits: Wanted = "last"
    """Which rows' logits come back."""


@dataclass
class Batch:
    """Rows of any number of sequences, computed in one pass. No sequence appears twice."""

    sequences: list[SequenceRows]
