"""One prompt's stream of events, which survives the loss of the workers that it runs on."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from glm5.v1 import decode_service_pb2 as pb
from glm5_gateway.dispatch.progress import Delivered, Job
from glm5_gateway.dispatch.workers import Workers
from glm5_gateway.events import Event
from glm5_gateway.metrics import ATTEMPTS, INEXACT, MOVES
from glm5_wire.clients import DecodeClient
from glm5_wire.errors import QueueFull, ServiceError, TimedOut, Unavailable
from glm5_wire.watcher import PeerHandle

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.1
_GRACE_SECONDS = 1.0
"""A new stream waits so long for a worker: one that failed another stream is being looked at again."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a stream is kept alive."""

    max_attempts: int
    """Breaks in a row without a new token; more end the request."""
    retry_seconds: float
    """From a break to the next sign of progress."""
    detection_seconds: float
    timeout_seconds: float
    """For the whole request."""

    def open(self, handle: PeerHandle, request: pb.GenerateRequest, timeout: float) -> AsyncGenerator[Any, None]:
        """Open a stream with the progress watchdog."""
        stream = DecodeClient(handle, self.detection_seconds).generate(request, timeout)
        assert isinstance(stream, AsyncGenerator)  # closing it cancels the call
        return stream

    async def end_choice(self, handle: PeerHandle, stream: int, choice: int) -> None:
        """Tell a worker that a choice of an open stream is not wanted any more."""
        await DecodeClient(handle, self.detection_seconds).end_choices(stream, [choice])


class _Leave(Exception):
    """The worker is draining and another one can go on."""


class Generation:
    """Runs a job to its end.

    Args:
        job: what to generate.
        workers: where.
        patience: limits.
    """

    def __init__(self, job: Job, workers: Workers, patience: Patience) -> None:
        self._workers, self._patience = workers, patience
        self._delivered = Delivered(job)
        self._deadline = time.monotonic() + patience.timeout_seconds
        self._attempt = 0
        self._failures = 0
        self._avoid: set[str] = set()
        self._compat = self._fingerprint = ""
        self._broken_at: float | None = None
        self._stream: tuple[PeerHandle, int] | None = None
        self._telling: set[asyncio.Task[None]] = set()

    def drop(self, choice: int) -> None:
        """Want no more of `choice`: the worker is told to stop it, and when none is left the stream ends."""
        was_open = choice in self._delivered.open
        self._delivered.open.discard(choice)
        if was_open and self._delivered.open and self._stream is not None:
            task = asyncio.create_task(self._end_choice(*self._stream, choice), name=f"end choice {choice}")
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _end_choice(self, handle: PeerHandle, stream: int, choice: int) -> None:
        """Tell the worker; where that fails it computes on, and its tokens are dropped."""
        try:
            await self._patience.end_choice(handle, stream, choice)
        except ServiceError as error:
            log.info("choice not ended request=%s choice=%d cause=%s", self._delivered.job.id, choice, error)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield every event once, until each choice has ended or was dropped.

        Raises:
            ServiceError: the request is wrong, or no worker could go on within the limits.
        """
        while self._delivered.open:
            handle = await self._worker()
            try:
                async with aclosing(self._run(handle)) as events:
                    async for event in events:
                        yield event
            except _Leave:
                self._moved(handle, "draining")
            except ServiceError as error:
                await self._failed(handle, error)

    async def _run(self, handle: PeerHandle) -> AsyncGenerator[Event, None]:
        """Yield the events of one attempt."""
        request = self._delivered.request(self._attempt, self._compat)
        self._attempt += 1
        ATTEMPTS.inc()
        stream = self._patience.open(handle, request, self._left())
        with self._workers.counted(handle):
            async with aclosing(stream) as responses:
                async for response in responses:
                    self._note(handle, response)
                    for event in self._delivered.take(response):
                        self._broken_at, self._failures = None, 0
                        yield event
                    if not self._delivered.open:
                        return
        raise Unavailable("a stream ended early", handle.peer.name, "it had open choices", "it goes on elsewhere")

    def _note(self, handle: PeerHandle, response: pb.GenerateResponse) -> None:
        """Look at what concerns the stream itself."""
        if response.HasField("accepted"):
            accepted = response.accepted
            self._stream = (handle, accepted.stream)
            if self._fingerprint and accepted.kernel_fingerprint != self._fingerprint:
                INEXACT.inc()
                log.warning(
                    "continued under other kernels request=%s worker=%s", self._delivered.job.id, accepted.worker
                )
            self._compat = self._compat or accepted.compat
            self._fingerprint = self._fingerprint or accepted.kernel_fingerprint
        draining = handle.peer.draining or (response.HasField("progress") and response.progress.draining)
        if draining and self._other(handle):
            raise _Leave

    def _other(self, handle: PeerHandle) -> bool:
        """Return whether a worker besides `handle` could go on."""
        avoid = frozenset({handle.peer.incarnation, *self._avoid})
        other = self._workers.pick(compat=self._compat, fingerprint=self._fingerprint, avoid=avoid)
        return other is not None and other.peer.incarnation not in avoid

    async def _worker(self) -> PeerHandle:
        """Return a worker; a stream that was broken waits for one, a new one hardly."""
        began = time.monotonic()
        while True:
            if self._left() <= 0:
                raise self._timed_out()
            version = self._workers.changes.version
            handle = self._workers.pick(
                compat=self._compat, fingerprint=self._fingerprint, avoid=frozenset(self._avoid)
            )
            if handle is not None:
                return handle
            wait = self._patience_left(began)
            if wait <= 0:
                raise self._workers.unavailable()
            await self._workers.changes.after(version, min(wait, self._left()))

    def _patience_left(self, began: float) -> float:
        """Return how many seconds the search for a worker, which began at `began`, may still last."""
        if self._broken_at is None:
            return began + _GRACE_SECONDS - time.monotonic()
        return self._broken_at + self._patience.retry_seconds - time.monotonic()

    def _left(self) -> float:
        """Return the seconds until the request's own deadline."""
        return self._deadline - time.monotonic()

    def _timed_out(self) -> TimedOut:
        """Return the error at the request's own deadline."""
        seconds = self._patience.timeout_seconds
        return TimedOut(
            "the request took too long", self._delivered.job.id, f"its limit is {seconds:g} s", "ask for less"
        )

    def _moved(self, handle: PeerHandle, cause: str) -> None:
        """Note that the stream leaves `handle`."""
        self._avoid.add(handle.peer.incarnation)
        self._broken_at = self._broken_at or time.monotonic()
        MOVES.labels(cause).inc()
        log.info("stream moves cause=%s request=%s worker=%s", cause, self._delivered.job.id, handle.peer.name)

    async def _failed(self, handle: PeerHandle, error: ServiceError) -> None:
        """Prepare the next attempt, or raise what ends the request."""
        if self._left() <= 0:
            raise self._timed_out() from error
        self._failures += 1
        if not error.retriable or self._failures >= self._patience.max_attempts:
            raise error
        full = isinstance(error, QueueFull)
        if full and not self._other(handle):
            raise error
        again = handle.peer.incarnation in self._avoid
        self._moved(handle, "broken")
        left = self._patience_left(time.monotonic())
        if left <= 0:
            raise error
        if not full:
            self._workers.report_failure(handle, error)
        if again:  # it failed before: whatever is wrong needs a moment
            await asyncio.sleep(min(_PAUSE_SECONDS * 2**self._failures, 2.0, left))
