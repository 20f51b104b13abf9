"""Rows of the cache as chunks on the wire: how a prefill worker cuts them and how a decode worker takes them in."""

import hashlib
from collections.abc import Iterator, Sequence

import google_crc32c
from torch import Tensor

from glm5.v1 import prefill_service_pb2 as pb
from glm5_engine.logprobs import TokenLogprob
from glm5_engine.messages import logprob_from, logprob_message
from glm5_engine.pages import PAGE_SIZE
from glm5_model.cache import CacheEntry, PagedCache
from glm5_spec.compat import PAGE_LAYOUT
from glm5_wire.errors import Incompatible, Unavailable
from glm5_wire.tensors import codec

MAX_CHUNK_BYTES = 1 << 20
_MOST_TOKENS = 512
_KINDS = {"latent": pb.CACHE_KIND_LATENT, "index_keys": pb.CACHE_KIND_INDEX_KEYS}


def manifest_of(cache: PagedCache) -> pb.CacheManifest:
    """Return the names of all tensors of `cache`, in the order in which chunks hold them."""
    element = codec.element_type(cache.dtype)
    entries = [
        pb.CacheEntry(layer=entry.layer, kind=_KINDS[entry.kind], element_type=element, width=entry.width)
        for entry in cache.entries
    ]
    return pb.CacheManifest(entries=entries, layout=PAGE_LAYOUT)


def hash_of(manifest: pb.CacheManifest) -> bytes:
    """Return the SHA-256 of the serialised manifest."""
    return hashlib.sha256(manifest.SerializeToString(deterministic=True)).digest()


def range_tokens(cache: PagedCache) -> int:
    """Return how many tokens one range of chunks covers: about one chunk's bytes, at least a page."""
    return max(PAGE_SIZE, min(_MOST_TOKENS, MAX_CHUNK_BYTES // cache.bytes_per_token))


class Cutter:
    """Cuts rows of one cache into chunks.

    Args:
        cache: to read from.
    """

    def __init__(self, cache: PagedCache) -> None:
        self._cache = cache
        self.manifest = manifest_of(cache)
        self.manifest_hash = hash_of(self.manifest)

    def cut(self, table: Tensor, start: int, end: int, logprobs: Sequence[TokenLogprob] = ()) -> list[pb.RunResponse]:
        """Return rows `start` to `end` as messages with chunks, read at once, for the pages may be gone a moment later.

        Args:
            table: page table of the sequence, int64.
            start: first position.
            end: position after the last.
            logprobs: of the prompt tokens that these rows predict; they go with the last chunk.
        """
        messages, slots = [], self._cache.slots(table, start, end - start)
        for first, entries in self._groups(end - start):
            read = (codec.to_bytes(self._cache.read(entry, slots).cpu()) for entry in entries)
            data = b"".join(read)
            message = pb.RunResponse()
            chunk = message.chunk  # filled in place: a message in a constructor is serialised and parsed
            chunk.manifest_hash, chunk.first_position, chunk.num_tokens = self.manifest_hash, start, end - start
            chunk.first_entry, chunk.num_entries = first, len(entries)
            chunk.data, chunk.crc32c = data, google_crc32c.value(data)
            messages.append(message)
        messages[-1].chunk.prompt_logprobs.extend(map(logprob_message, logprobs))
        return messages

    def _groups(self, num_tokens: int) -> Iterator[tuple[int, list[CacheEntry]]]:
        """Yield runs of entries whose rows fit into one chunk, each with the index of its first."""
        first, group, size = 0, list[CacheEntry](), 0
        for index, entry in enumerate(self._cache.entries):
            entry_bytes = num_tokens * entry.width * self._cache.dtype.itemsize
            if group and size + entry_bytes > MAX_CHUNK_BYTES:
                yield first, group
                first, group, size = index, [], 0
            group.append(entry)
            size += entry_bytes
        yield first, group


class Receiver:
    """Takes the chunks of one run in.

    Args:
        cache: to write to.
        start: first position that is wanted; all before are there.
        where: name of the sender, for errors.
    """

    def __init__(self, cache: PagedCache, start: int, where: str) -> None:
        self._cache, self._where = cache, where
        self._hash = hash_of(manifest_of(cache))
        self._next_entry = 0
        self.cached = start
        """Rows of which every entry is there."""

    def start(self, started: pb.Started) -> None:
        """Check what will come.

        Raises:
            Incompatible: it has other tensors than our cache.
        """
        if started.manifest_hash != self._hash or hash_of(started.manifest) != self._hash:
            why = f"its manifest is {started.manifest_hash.hex()[:12]}, ours is {self._hash.hex()[:12]}"
            raise Incompatible("cache refused", self._where, why, "both ends must serve the same model and layout")

    def take(self, chunk: pb.CacheChunk, table: Tensor) -> list[TokenLogprob]:
        """Write a chunk to the pages of `table`, which reach to its end, and return the logprobs that came with it.

        Raises:
            Unavailable: it is damaged or not the next one.
        """
        data = chunk.data  # once: each reading of it makes a copy
        self._check(chunk, data)
        numbers, first = codec.from_bytes(data, self._cache.dtype), 0
        slots = self._cache.slots(table, chunk.first_position, chunk.num_tokens)
        for entry in self._cache.entries[chunk.first_entry : chunk.first_entry + chunk.num_entries]:
            end = first + chunk.num_tokens * entry.width
            self._cache.write(entry, slots, numbers[first:end].view(-1, entry.width))
            first = end
        self._next_entry = chunk.first_entry + chunk.num_entries
        if self._next_entry == len(self._cache.entries):
            self._next_entry, self.cached = 0, chunk.first_position + chunk.num_tokens
        return [logprob_from(message) for message in chunk.prompt_logprobs]

    def _check(self, chunk: pb.CacheChunk, data: bytes) -> None:
        entries = self._cache.entries[chunk.first_entry : chunk.first_entry + chunk.num_entries]
        wanted = sum(entry.width for entry in entries) * chunk.num_tokens * self._cache.dtype.itemsize
        place = (chunk.first_position, chunk.first_entry)
        if chunk.manifest_hash != self._hash:
            raise self._broken("it has another manifest than the run")
        if place != (self.cached, self._next_entry) or len(entries) != chunk.num_entries or not chunk.num_tokens:
            expected = (self.cached, self._next_entry)
            raise self._broken(f"(position, entry) is {place} with {chunk.num_entries} entries, expected {expected}")
        if len(data) != wanted:
            raise self._broken(f"it has {len(data)} bytes, its shape needs {wanted}")
        if google_crc32c.value(data) != chunk.crc32c:
            raise self._broken("its checksum differs")

    def _broken(self, why: str) -> Unavailable:
        return Unavailable("cache chunk refused", self._where, why, "the rows are fetched or computed again")
