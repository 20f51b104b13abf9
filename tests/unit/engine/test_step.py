"""Micro-batches: whole sequences, about equal halves."""

import pytest

from glm5_engine.request import Request
from glm5_engine.sequence import Entry, Sequence
from glm5_engine.step import batch_of, split


def entries(counts):
    made = []
    for count in counts:
        sequence = Sequence(Request("r", list(range(count)), (), print), None, list(range(count)), pages=[3, 1])
        made.append(Entry(sequence, 0, count))
    return made


@pytest.mark.parametrize(
    ("counts", "parts"),
    [
        ([1], [[1]]),
        ([500], [[500]]),
        ([1, 1, 1], [[1, 1, 1]]),
        ([1] * 8, [[1] * 4, [1] * 4]),
        ([1, 1, 1, 1, 60], [[1, 1, 1, 1], [60]]),
        ([60, 1, 1, 1, 1], [[60], [1, 1, 1, 1]]),
        ([4, 4, 4], [[4], [4, 4]]),
    ],
)
def test_split(counts, parts):
    assert [[entry.count for entry in part] for part in split(entries(counts), threshold=8)] == parts


def test_a_batch_has_the_rows_and_the_page_table_made_once():
    (entry,) = entries([5])
    (first,), (second,) = batch_of([entry]).sequences, batch_of([entry]).sequences
    assert first.token_ids.tolist() == [0, 1, 2, 3, 4]
    assert first.page_table.tolist() == [3, 1]
    assert first.page_table is second.page_table
    assert first.logits == "none"
