"""The logits are those of transformers, whatever way the rows come in."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PagedCache
from glm5_model.local import run_local
from unit.model.conftest import Reference, Served, page_table, tokens

# Two float32 implementations that sum in another order differ by 1e-5 here; the smallest mistake costs more than 1.
TOLERANCE = 1e-4
TOP_K = 32
LENGTHS = [TOP_K - 1, TOP_K, TOP_K + 1, 3 * TOP_K]


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    difference = (ours - theirs).abs().amax(-1)
    assert difference.max() <= TOLERANCE, (
        f"rows {(difference > TOLERANCE).nonzero().flatten().tolist()}: {difference.max()}"
    )
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))


@pytest.mark.parametrize("length", LENGTHS)
def test_one_prefill_gives_the_logits_of_transformers(reference: Reference, served: Served, length: int) -> None:
    ids = tokens(length)
    ours = served.run(served.cache(), SequenceRows(ids, 0, page_table(length), "all"))
    assert_same(ours, reference.logits(ids))


@pytest.mark.parametrize("chunks", [[7, 1, 30, 2, 56], [31, 1, 1, 1, 62], [1] * 96, [33, 63], [64, 32]])
def test_ragged_chunks_and_single_tokens_give_the_logits_of_transformers(
    reference: Reference, served: Served, chunks: list[int]
) -> None:
    ids = tokens(96, seed=2)
    ours = served.chunked(ids, chunks, served.cache(), page_table(96))
    assert_same(ours, reference.logits(ids))


def test_a_mixed_batch_gives_each_sequence_the_logits_it_has_alone(reference: Reference, served: Served) -> None:
    lengths = [3, 40, 96, 33, 70]
    cache = served.cache()
    sequences = [(tokens(length, seed=length), page_table(length, 8 * i)) for i, length in enumerate(lengths)]
    # Two sequences have their past in the cache and bring one row, one brings a chunk, two come whole.
    for number, past in ((1, 39), (2, 95), (4, 20)):
        ids, table = sequences[number]
        served.run(cache, SequenceRows(ids[:past], 0, table, "none"))
    starts = [0, 39, 95, 0, 20]
    rows = [SequenceRows(ids[s:], s, table, "all") for (ids, table), s in zip(sequences, starts, strict=True)]
    ours = served.run(cache, *rows)
    theirs = [reference.logits(ids)[s:] for (ids, _), s in zip(sequences, starts, strict=True)]
    assert_same(ours, torch.cat(theirs))


def test_only_the_wanted_rows_come_back(served: Served) -> None:
    ids = tokens(20)
    every = served.run(served.cache(), SequenceRows(ids, 0, page_table(20), "all"))
    cache = served.cache()
    rows = [SequenceRows(ids, 0, page_table(20, i), wanted) for i, wanted in enumerate(("none", "last", "all"))]
    some = served.run(cache, *rows)
    assert torch.equal(some, torch.cat([every[-1:], every]))


def test_of_the_last_layer_only_wanted_rows_are_computed_and_every_row_is_cached(served: Served) -> None:
    ids, table, last = tokens(70), page_table(80), served.config.num_layers - 1
    whole, chunked = served.cache(), served.cache()
    alone = served.run(whole, SequenceRows(ids, 0, table, "all"))
    none = rows_by_layer(served, chunked, SequenceRows(ids[:40], 0, table, "none"))
    assert last not in none
    assert set(none.values()) == {40}
    assert rows_by_layer(served, chunked, SequenceRows(ids[40:], 40, table, "last")) == dict.fromkeys(none, 30) | {
        last: 1
    }
    slots = whole.slots(table, 0, 70)
    for entry in whole.entries:
        assert torch.equal(whole.read(entry, slots), chunked.read(entry, slots))
    assert torch.equal(served.run(chunked, SequenceRows(ids[69:], 69, table, "last")), alone[69:])


def rows_by_layer(served: Served, cache: PagedCache, rows: SequenceRows) -> dict[int, int]:
    """Compute `rows`, and return how many of each sparse layer went to the experts."""
    seen: dict[int, int] = {}

    def product(layer: int, rows: Tensor, *rest: Any) -> Tensor:
        seen[layer] = len(rows)
        return served.experts.product(layer, rows, *rest)

    forward = served.transformer.forward(Batch([rows]), cache)
    run_local(forward, SimpleNamespace(product=product), served.kernels)
    return seen


def test_pages_may_lie_anywhere_and_hold_rubbish(reference: Reference, served: Served) -> None:
    ids = tokens(96, seed=3)
    cache = served.cache(pages=16)
    for entry in cache.entries:
        cache.write(entry, cache.slots(torch.arange(16), 0, 16 * 64), torch.full((16 * 64, entry.width), 1e4))
    ours = served.chunked(ids, [50, 46], cache, torch.tensor([13, 2]))
    assert_same(ours, reference.logits(ids))
