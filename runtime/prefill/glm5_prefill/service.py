"""PrefillService: computes prompts and streams their cache while it computes."""

import logging
from collections.abc import AsyncIterator, Iterable
from functools import partial
from time import perf_counter
from typing import Any

from glm5.v1 import prefill_service_pb2 as pb
from glm5.v1 import prefill_service_pb2_grpc as rpc
from glm5_engine.events import Failed, Started
from glm5_engine.request import Request
from glm5_engine.sequence import Sequence
from glm5_engine.step import page_table
from glm5_engine.stream import Stream, Streams
from glm5_engine.transfer import Cutter, range_tokens
from glm5_engine.worker import Worker
from glm5_spec.settings import WorkerSettings
from glm5_wire import tracing
from glm5_wire.life import Life

log = logging.getLogger(__name__)


class PrefillWorker(Worker):
    """The role service of a prefill worker."""

    def __init__(self, settings: WorkerSettings, life: Life) -> None:
        super().__init__(settings, life)
        life.server.add(partial(rpc.add_PrefillServiceServicer_to_server, PrefillServicer(self)))


class PrefillServicer(rpc.PrefillServiceServicer):
    """Serves runs of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._cutter: Cutter | None = None

    async def Run(self, request: pb.RunRequest, context: Any) -> AsyncIterator[pb.RunResponse]:  # noqa: N802
        """Compute `request.token_ids` and yield the rows from `first_position` on.

        Raises:
            ServiceError: the request is refused, or a step of it failed.
        """
        worker = self._worker
        worker.check_compat(request.compat)
        engine = worker.engine
        if self._cutter is None:
            self._cutter = Cutter(engine.cache)
        with worker.streams.opened() as stream:
            wanted = request.top_logprobs if request.prompt_logprobs else None
            work = Request(request.request_id, list(request.token_ids), (), stream.put, request.fairness_key, wanted)
            work.traceparent = tracing.inject()
            (sequence,) = engine.submit(work)
            try:
                yield _progress(engine.progress, sequence, worker.streams)
                run = _Run(worker, self._cutter, stream, sequence, request.first_position)
                async for response in run.responses():
                    yield response
            finally:
                engine.cancel(work)


class _Run:
    """One run on its way out."""

    def __init__(self, worker: Worker, cutter: Cutter, stream: Stream, sequence: Sequence, first: int) -> None:
        self._worker, self._cutter, self._stream = worker, cutter, stream
        self._sequence, self._sent = sequence, first
        self._range = range_tokens(worker.engine.cache)
        self._total = sequence.num_prompt
        self._began = perf_counter()

    async def responses(self) -> AsyncIterator[pb.RunResponse]:
        """Yield Started, the chunks as their rows are computed, and Completed; progress while all is quiet."""
        while self._sent < self._total:
            events, due = await self._stream.next()
            for event in events:
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, Started):
                    self._began = perf_counter()
                    yield self._started()
            # A preempted sequence has no rows for a while; what was sent stays sent.
            while self._sent < (end := min(self._sequence.cached, self._sent + self._range)):
                for response in self._chunks(end):
                    yield response
                due = False
            if due:
                yield _progress(self._worker.engine.progress, self._sequence, self._worker.streams)
        compute_us = int((perf_counter() - self._began) * 1e6)
        yield pb.RunResponse(completed=pb.Completed(num_tokens=self._total, compute_us=compute_us))

    def _started(self) -> pb.RunResponse:
        started = pb.Started(manifest=self._cutter.manifest, manifest_hash=self._cutter.manifest_hash)
        return pb.RunResponse(started=started)

    def _chunks(self, end: int) -> Iterable[pb.RunResponse]:
        """Return the rows sent so far up to `end` as messages, read at once."""
        sequence, table = self._sequence, page_table(self._sequence)
        logprobs = sequence.prompt_logprobs[self._sent : end]
        messages = self._cutter.cut(table, self._sent, end, logprobs)
        self._sent = end
        return messages


def _progress(counter: int, sequence: Sequence, streams: Streams) -> pb.RunResponse:
    progress = pb.RunProgress(
        counter=counter,
        position=sequence.cached,
        queued=not sequence.request.has_started,
        draining=streams.is_draining,
    )
    return pb.RunResponse(progress=progress)
