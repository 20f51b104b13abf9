"""Rows of the cache on the wire: what is cut is what arrives, and nothing else is taken in."""

import pytest
import torch
from google_crc32c import value as crc32c

from glm5.v1 import prefill_service_pb2 as pb
from glm5_engine.logprobs import TokenLogprob
from glm5_engine.transfer import MAX_CHUNK_BYTES, Cutter, Receiver, hash_of, manifest_of, range_tokens
from glm5_model.cache import PagedCache
from glm5_wire.errors import Incompatible, Unavailable


def filled(toy, dtype=torch.float32, num_pages=4):
    cache = PagedCache(toy.config, num_pages, dtype)
    for entry in cache.entries:
        rows = torch.randn(num_pages * 64, entry.width).to(dtype)
        cache.write(entry, cache.slots(torch.arange(num_pages), 0, len(rows)), rows)
    return cache


def transfer(source, target, ranges, tables):
    cutter, receiver = Cutter(source), Receiver(target, ranges[0][0], "p")
    receiver.start(pb.Started(manifest=cutter.manifest, manifest_hash=cutter.manifest_hash))
    for start, end in ranges:
        for chunk in (message.chunk for message in cutter.cut(tables[0], start, end)):
            receiver.take(pb.CacheChunk.FromString(chunk.SerializeToString()), tables[1])
    return receiver


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_arrive_bit_by_bit_under_another_page_table(toy, dtype):
    source, target = filled(toy, dtype), PagedCache(toy.config, 5, dtype)
    tables = torch.tensor([2, 0, 3]), torch.tensor([4, 1, 0])
    receiver = transfer(source, target, [(0, 64), (64, 100), (100, 170)], tables)
    assert receiver.cached == 170
    for entry in source.entries:
        sent, got = (
            source.read(entry, source.slots(tables[0], 0, 170)),
            target.read(entry, target.slots(tables[1], 0, 170)),
        )
        assert torch.equal(sent.view(torch.uint8), got.view(torch.uint8))


def test_chunks_are_at_most_a_mebibyte_and_hold_whole_entries(toy, monkeypatch):
    cache = filled(toy)
    monkeypatch.setattr("glm5_engine.transfer.MAX_CHUNK_BYTES", 20_000)
    chunks = [message.chunk for message in Cutter(cache).cut(torch.arange(4), 0, 64)]
    assert len(chunks) > 2
    assert all(len(chunk.data) <= 20_000 for chunk in chunks)
    assert [c.first_entry for c in chunks[1:]] == [c.first_entry + c.num_entries for c in chunks[:-1]]
    assert sum(c.num_entries for c in chunks) == len(cache.entries)
    target = PagedCache(toy.config, 4, torch.float32)
    receiver = Receiver(target, 0, "p")
    for chunk in chunks:
        assert receiver.cached == 0
        receiver.take(chunk, torch.arange(4))
    assert receiver.cached == 64


def test_a_range_covers_a_page_at_least_and_a_chunk_about(toy):
    cache = filled(toy)
    assert 64 <= range_tokens(cache) <= 512
    assert range_tokens(cache) * cache.bytes_per_token <= MAX_CHUNK_BYTES or range_tokens(cache) == 64


def test_logprobs_come_with_the_last_chunk_of_their_range(toy):
    value = TokenLogprob(3, -0.5, 2, ((1, -0.25),))
    chunk = Cutter(filled(toy)).cut(torch.arange(4), 0, 2, [value])[-1].chunk
    target = Receiver(PagedCache(toy.config, 4, torch.float32), 0, "p")
    assert target.take(chunk, torch.arange(4)) == [value]


def test_another_manifest_is_refused_before_any_row(toy):
    cache = filled(toy, torch.bfloat16)
    manifest = manifest_of(cache)
    started = pb.Started(manifest=manifest, manifest_hash=hash_of(manifest))
    with pytest.raises(Incompatible, match="manifest"):
        Receiver(PagedCache(toy.config, 4, torch.float32), 0, "p").start(started)


def flip(chunk):
    chunk.data = bytes([chunk.data[0] ^ 1]) + chunk.data[1:]


def cut_short(chunk):
    chunk.data = chunk.data[:-4]
    chunk.crc32c = crc32c(chunk.data)


DAMAGES = {
    "checksum": flip,
    "bytes": cut_short,
    "manifest": lambda chunk: setattr(chunk, "manifest_hash", b"x"),
    r"\(64, 0\)": lambda chunk: setattr(chunk, "first_position", 64),
    r"\(0, 1\)": lambda chunk: setattr(chunk, "first_entry", 1),
    "99 entries": lambda chunk: setattr(chunk, "num_entries", 99),
}


@pytest.mark.parametrize("part", DAMAGES)
def test_a_damaged_chunk_is_refused_and_writes_nothing(toy, part):
    chunk = Cutter(filled(toy)).cut(torch.arange(4), 0, 64)[0].chunk
    DAMAGES[part](chunk)
    target = PagedCache(toy.config, 4, torch.float32)
    receiver = Receiver(target, 0, "prefill-0")
    with pytest.raises(Unavailable, match=part):
        receiver.take(chunk, torch.arange(4))
    assert receiver.cached == 0
    assert all(not target.read(entry, target.slots(torch.arange(4), 0, 64)).any() for entry in target.entries)
