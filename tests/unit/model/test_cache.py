"""Rows go where the page table says, pages can be copied, and nothing is addressed that is not there."""

from pathlib import Path

import pytest
import torch

from glm5_model.batch import Batch, SequenceRows
from glm5_model.cache import PAGE_SIZE, CacheEntry, PagedCache
from glm5_model.config import ModelConfig
from glm5_model.errors import CacheError, ModelError
from glm5_model.exchange import Collect
from unit.model.conftest import Served, page_table, tokens


@pytest.fixture
def cache(plain: Path) -> PagedCache:
    return PagedCache(ModelConfig.from_dir(plain), 6, torch.float32)


def test_the_entries_are_a_latent_of_every_layer_and_keys_of_the_full_ones(served: Served) -> None:
    config, cache = served.config, served.cache()
    latent = [CacheEntry(i, "latent", 40) for i in range(5)]
    keys = [CacheEntry(i, "index_keys", 16) for i in config.full_layers]
    assert list(cache.entries) == latent + keys
    assert cache.bytes_per_token == 4 * (5 * 40 + 16 * len(config.full_layers))


@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 64), (63, 2), (5, 140), (128, 64)])
def test_what_is_written_is_read_back_and_the_rest_stays(cache: PagedCache, start: int, count: int) -> None:
    table = torch.tensor([4, 0, 5])
    for entry in cache.entries:
        before = cache.read(entry, cache.slots(table, 0, 3 * PAGE_SIZE))
        rows = torch.randn(count, entry.width)
        cache.write(entry, cache.slots(table, start, len(rows)), rows)
        expected = before.clone()
        expected[start : start + count] = rows
        assert torch.equal(cache.read(entry, cache.slots(table, 0, 3 * PAGE_SIZE)), expected)
        assert not cache.read(entry, cache.slots(torch.tensor([1, 2, 3]), 0, 3 * PAGE_SIZE)).any()


def test_what_is_read_is_a_copy(cache: PagedCache) -> None:
    entry, table = cache.entries[0], torch.tensor([1])
    cache.read(entry, cache.slots(table, 0, 64)).fill_(1)
    assert not cache.read(entry, cache.slots(table, 0, 64)).any()


def test_a_copied_page_goes_its_own_way(served: Served) -> None:
    ids, cache = tokens(70), served.cache()
    served.run(cache, SequenceRows(ids[:64], 0, torch.tensor([3]), "none"))
    cache.copy_page(3, 9)
    served.run(cache, SequenceRows(ids[:5], 0, torch.tensor([3]), "none"))
    continued = served.run(cache, SequenceRows(ids[64:], 64, torch.tensor([9, 1]), "all"))
    alone = served.run(served.cache(), SequenceRows(ids, 0, page_table(70), "all"))
    assert torch.equal(continued, alone[64:])


def test_what_lies_outside_is_refused(cache: PagedCache) -> None:
    entry = cache.entries[0]
    with pytest.raises(CacheError, match="positions 60 to 64 need 2 pages, the page table has 1"):
        cache.read(entry, cache.slots(torch.tensor([0]), 60, 5))
    with pytest.raises(CacheError, match="outside 0 to 5"):
        cache.read(entry, cache.slots(torch.tensor([6]), 0, 1))
    with pytest.raises(CacheError, match="shape"):
        cache.write(entry, cache.slots(torch.tensor([0]), 0, 2), torch.zeros(2, 3))
    with pytest.raises(CacheError, match="layer 99 has no latent"):
        cache.read(CacheEntry(99, "latent", 40), cache.slots(torch.tensor([0]), 0, 1))
    with pytest.raises(CacheError, match="page 6"):
        cache.copy_page(0, 6)


def test_a_batch_without_rows_or_without_pages_is_refused(served: Served) -> None:
    cache = served.cache()
    with pytest.raises(CacheError, match="no sequences"):
        served.run(cache)
    with pytest.raises(CacheError, match="no rows"):
        served.run(cache, SequenceRows(tokens(0), 0, page_table(1)))
    with pytest.raises(CacheError, match="page table has 1"):
        served.run(cache, SequenceRows(tokens(65), 0, page_table(64)))


def test_a_driver_that_answers_wrongly_is_told(served: Served) -> None:
    forward = served.transformer.forward(Batch([SequenceRows(tokens(3), 0, page_table(3))]), served.cache())
    next(forward)
    assert isinstance(forward.send(None), Collect)
    with pytest.raises(ModelError, match="layer 2: the driver answered Collect with nothing"):
        forward.send(None)
