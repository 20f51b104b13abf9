"""Gets the rows of a prompt from a prefill worker: pages are taken as rows come, and a broken run goes on elsewhere."""

import asyncio
import contextlib
import logging
from time import perf_counter

from glm5.v1 import peer_pb2
from glm5.v1 import prefill_service_pb2 as pb
from glm5_decode import metrics
from glm5_engine.logprobs import TokenLogprob
from glm5_engine.sequence import Sequence
from glm5_engine.step import page_table
from glm5_engine.transfer import Receiver
from glm5_engine.worker import Worker
from glm5_wire import tracing
from glm5_wire.clients import PrefillClient
from glm5_wire.errors import ServiceError, Unavailable
from glm5_wire.watcher import PeerHandle

log = logging.getLogger(__name__)


class Fetcher:
    """Fetches for the sequences of one decode worker.

    Args:
        worker: whose cache is filled.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._running: dict[str, int] = {}

    def peers(self) -> list[PeerHandle]:
        """Return the prefill workers of our compat: equal kernels first, then those with fewer of our runs."""
        loaded = self._worker.loaded
        found = [h for h in self._worker.life.registry.peers(peer_pb2.ROLE_PREFILL) if h.peer.compat == loaded.compat]

        def rank(handle: PeerHandle) -> tuple[bool, int]:
            other_kernels = handle.peer.kernel_fingerprint != loaded.kernels.fingerprint
            return other_kernels, self._running.get(handle.address, 0)

        return sorted(found, key=rank)

    def start(self, sequence: Sequence) -> asyncio.Task[None] | None:
        """Start to fetch where the prompt is long enough and a prefill worker is there."""
        if sequence.num_prompt - sequence.cached <= self._worker.settings.local_prefill_tokens or not self.peers():
            return None
        return asyncio.create_task(self._fetch(sequence), name=f"fetch {sequence.request.request_id}")

    async def _fetch(self, sequence: Sequence) -> None:
        """Fetch from one worker after the other until all rows but the last are there; what lacks is computed here."""
        start, failed = perf_counter(), set[str]()
        try:
            while sequence.cached < sequence.num_prompt - 1:
                handle = next((h for h in self.peers() if h.address not in failed), None)
                if handle is None:
                    log.warning("prompt is computed here request=%s", sequence.request.request_id)
                    metrics.LOCAL_FALLBACKS.inc()
                    break
                if not await self._try(handle, sequence):
                    failed.add(handle.address)
        except Exception:
            log.exception("fetch failed request=%s; the rest is computed here", sequence.request.request_id)
        metrics.FETCH_SECONDS.observe(perf_counter() - start)
        sequence.may_fetch = not failed
        self._worker.engine.end_fetch(sequence)

    async def _try(self, handle: PeerHandle, sequence: Sequence) -> bool:
        """Run on one worker and return whether all rows came; those that did stay in any case."""
        self._running[handle.address] = self._running.get(handle.address, 0) + 1
        trace = sequence.request.traceparent
        try:
            with tracing.span_below(trace, "prefill.fetch", peer=handle.peer.name, rows=sequence.num_prompt):
                await self._run(handle, sequence)
        except ServiceError as error:
            log.warning("prefill run broke request=%s peer=%s cached=%d cause=%s", sequence.request.request_id,
                        handle.peer.name, sequence.cached, error)  # fmt: skip
            metrics.FETCH_FAILURES.labels(type(error).__name__).inc()
            if isinstance(error, Unavailable):
                self._worker.life.registry.report_failure(handle, error)
            return False
        else:
            return True
        finally:
            self._running[handle.address] -= 1
            if not self._running[handle.address]:
                del self._running[handle.address]

    async def _run(self, handle: PeerHandle, sequence: Sequence) -> None:
        """Take in what one run sends.

        Raises:
            ServiceError: it was refused, broke, or ended too early.
        """
        engine = self._worker.engine
        receiver = Receiver(engine.cache, sequence.cached, handle.peer.name)
        client = PrefillClient(handle, self._worker.settings.detection_seconds)
        async with contextlib.aclosing(client.run(self._request(sequence))) as messages:  # type: ignore[type-var]
            async for message in messages:
                if message.HasField("started"):
                    receiver.start(message.started)
                elif message.HasField("chunk"):
                    chunk = message.chunk
                    await engine.grow(sequence, chunk.first_position + chunk.num_tokens)
                    self._take(receiver, chunk, sequence)
        if sequence.cached < sequence.num_prompt - 1:
            why = f"it sent {sequence.cached} of {sequence.num_prompt - 1} rows"
            raise Unavailable("prefill run ended early", handle.peer.name, why, "the rest is fetched elsewhere")

    def _take(self, receiver: Receiver, chunk: pb.CacheChunk, sequence: Sequence) -> None:
        """Write a chunk; its rows count once every tensor of them is there."""
        logprobs = receiver.take(chunk, page_table(sequence))
        metrics.FETCHED_BYTES.inc(chunk.ByteSize())
        if _wants_logprobs(sequence) and receiver.cached > sequence.cached:
            self._note_logprobs(sequence, chunk.first_position, receiver.cached, logprobs)
        sequence.cached = min(receiver.cached, sequence.num_prompt - 1)

    def _note_logprobs(self, sequence: Sequence, start: int, end: int, logprobs: list[TokenLogprob]) -> None:
        """Append the logprobs that rows `start` to `end` predict and that are unknown yet."""
        wanted = min(end, sequence.num_prompt - 1) - start
        if len(logprobs) != wanted:
            why = f"rows {start} to {end} came with {len(logprobs)} logprobs instead of {wanted}"
            raise Unavailable("cache chunk refused", sequence.request.request_id, why, "the rows are computed again")
        sequence.prompt_logprobs += logprobs[len(sequence.prompt_logprobs) - start :]

    def _request(self, sequence: Sequence) -> pb.RunRequest:
        """Return the wish for all rows but the last; with logprobs for all, since the last token's are wanted too."""
        request = sequence.request
        wants_logprobs = _wants_logprobs(sequence)
        count = sequence.num_prompt if wants_logprobs else sequence.num_prompt - 1
        return pb.RunRequest(
            request_id=request.request_id,
            token_ids=sequence.tokens[:count],
            first_position=sequence.cached,
            compat=self._worker.loaded.compat,
            prompt_logprobs=wants_logprobs,
            top_logprobs=request.prompt_logprobs or 0,
            fairness_key=request.fairness_key,
        )


def _wants_logprobs(sequence: Sequence) -> bool:
    """Return whether the logprobs of the prompt come with its rows: the first choice reads them for all."""
    return sequence.request.prompt_logprobs is not None and sequence.leader is None
