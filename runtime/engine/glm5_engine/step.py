"""From planned rows to a batch for the model, and from logits back to sequences. Used by the engine's loop."""

from collections.abc import Sequence as Items
from typing import Literal

import torch
from torch import Tensor

from glm5_engine.sequence import Entry, Sequence
from glm5_model.batch import Batch, SequenceRows


def batch_of(entries: Items[Entry]) -> Batch:
    """Return the rows of `entries` in their order."""
    return Batch([_rows(entry) for entry in entries])


def split(entries: list[Entry], threshold: int) -> list[list[Entry]]:
    """Return `entries` as one micro-batch, or as two of about equal size from `threshold` rows on.

    Rows of one sequence stay together: the later ones read what the earlier ones write.
    """
    total = sum(entry.count for entry in entries)
    if len(entries) < 2 or total < threshold:
        return [entries]
    first, rows = 1, entries[0].count
    while first < len(entries) - 1 and 2 * (rows + entries[first].count) <= total:
        rows += entries[first].count
        first += 1
    return [entries[:first], entries[first:]]


def num_logits(entry: Entry) -> int:
    """Return how many rows of logits the entry gets."""
    return entry.count if entry.wants_all else int(entry.samples)


def page_table(sequence: Sequence) -> Tensor:
    """Return the page table as int64; made anew after a change only."""
    if sequence.table is None:
        sequence.table = torch.tensor(sequence.pages, dtype=torch.int64)
    return sequence.table


def _rows(entry: Entry) -> SequenceRows:
    sequence = entry.sequence
    token_ids = torch.tensor(sequence.tokens[entry.start : entry.end], dtype=torch.int64)
    logits: Literal["none", "last", "all"] = "all" if entry.wants_all else "last" if entry.samples else "none"
    return SequenceRows(token_ids, entry.start, page_table(sequence), logits)
