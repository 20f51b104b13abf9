"""DecodeService: requests in, token streams out."""

import logging
import secrets
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from glm5.v1 import decode_service_pb2 as pb
from glm5.v1 import decode_service_pb2_grpc as rpc
from glm5.v1 import peer_pb2
from glm5_decode.attempts import Attempts
from glm5_decode.fetch import Fetcher
from glm5_decode.responses import request_from, responses
from glm5_engine.engine import StartFetch
from glm5_engine.request import Request
from glm5_engine.worker import Worker
from glm5_spec.settings import WorkerSettings
from glm5_wire import tracing
from glm5_wire.life import Life

log = logging.getLogger(__name__)


class DecodeWorker(Worker):
    """The role service of a decode worker."""

    def __init__(self, settings: WorkerSettings, life: Life) -> None:
        super().__init__(settings, life)
        self._fetcher: Fetcher | None = None
        life.server.add(partial(rpc.add_DecodeServiceServicer_to_server, DecodeServicer(self)))

    def start_fetch(self) -> StartFetch:
        """Fetch long prompts from prefill workers."""
        self._fetcher = Fetcher(self)
        return self._fetcher.start

    def describe(self, peer: peer_pb2.Peer) -> None:
        """Fill in what peers are told."""
        super().describe(peer)
        peer.has_prefill = self._fetcher is not None and bool(self._fetcher.peers())


class DecodeServicer(rpc.DecodeServiceServicer):
    """Serves requests of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._attempts = Attempts()
        self._works: dict[int, Request] = {}

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:  # noqa: N802
        """Yield the events of a request until the last choice has finished.

        Raises:
            ServiceError: the request is refused, a step of it failed, or the worker leaves.
        """
        worker = self._worker
        worker.check_compat(request.compat)
        engine = worker.engine
        with worker.streams.opened() as stream, self._attempts.opened(request, stream):
            work = request_from(request, stream.put)
            work.traceparent = tracing.inject()
            engine.submit(work)
            number = secrets.randbits(63)  # never that of a stream of an earlier incarnation
            self._works[number] = work
            try:
                yield self._accepted(number)
                finished = 0
                while finished < len(work.choices):
                    events, due = await stream.next()
                    for response in responses(events, 0):
                        finished += response.HasField("finished")
                        yield response
                    if due:
                        yield self._progress(work)
            finally:
                del self._works[number]
                engine.cancel(work)

    async def EndChoices(self, request: pb.EndChoicesRequest, context: Any) -> pb.EndChoicesResponse:  # noqa: N802
        """End choices of an open stream; their ends travel on it."""
        work = self._works.get(request.stream)
        if work is not None:
            for index in request.choices:
                self._worker.engine.end_choice(work, index)
        return pb.EndChoicesResponse()

    def _accepted(self, number: int) -> pb.GenerateResponse:
        worker = self._worker
        accepted = pb.Accepted(
            worker=worker.settings.name,
            incarnation=worker.life.incarnation,
            compat=worker.loaded.compat,
            kernel_fingerprint=worker.loaded.kernels.fingerprint,
            weight_version=worker.settings.weight_version,
            stream=number,
        )
        return pb.GenerateResponse(accepted=accepted)

    def _progress(self, work: Request) -> pb.GenerateResponse:
        streams = self._worker.streams
        progress = pb.StepProgress(
            counter=self._worker.engine.progress,
            queued=not work.has_started,
            draining=streams.is_draining,
            leave_in_ms=streams.leave_in_ms,
        )
        return pb.GenerateResponse(progress=progress)
