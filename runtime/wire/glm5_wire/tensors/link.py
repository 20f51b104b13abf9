"""One stream to one shard for one lane, opened again whenever it breaks."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import grpc.aio
from google.protobuf.message import DecodeError

from glm5.v1 import expert_service_pb2 as pb
from glm5_wire.errors import InvalidRequest, ServiceError, Unavailable, from_rpc_error
from glm5_wire.tensors.messages import METHOD, SERVICE, messages
from glm5_wire.tensors.parts import Part
from glm5_wire.watcher import STALL_FACTOR, PeerHandle

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.1


class Owner(Protocol):
    """Who is told what happens on a link."""

    def link_changed(self) -> None:
        """Note that a link has opened or closed."""

    def part_failed(self, link: "Link", part: Part, reason: str) -> None:
        """Send `part` elsewhere or again."""

    def link_broken(self, link: "Link", error: ServiceError) -> None:
        """Note that the stream broke."""

    def told(self, link: "Link", failure: pb.Failure) -> None:
        """Take over the description of the shard in a failure."""


class Link:
    """A stream with a window of batches in flight.

    Args:
        handle: the shard.
        lane: of all batches.
        hello: the first message.
        weight_version: that batches expect.
        owner: is told what happens.
    """

    def __init__(
        self, handle: PeerHandle, lane: "pb.Lane.ValueType", hello: pb.Hello, weight_version: int, owner: Owner
    ) -> None:
        self.handle, self.lane = handle, lane
        self._hello, self._weight_version, self._owner = hello, weight_version, owner
        # Messages are bytes here: the compiled library writes and reads the usual ones.
        self._open: Callable[[], grpc.aio.StreamStreamCall[bytes, bytes]] = handle.channel.stream_stream(
            f"/{SERVICE}/{METHOD}"
        )
        self._messages = messages()
        self._call: grpc.aio.StreamStreamCall[Any, Any] | None = None
        self._flying: dict[int, Part] = {}
        self._waiting: deque[Part] = deque()
        self._out: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._sequence = 0
        self._heard = self._moved = monotonic()
        self._counter = -1
        self._closing = False
        self.is_open = False
        self.leaving = False
        """The shard wants no batches from those who know another holder."""
        self.window = self.max_rows = 1
        self.load = 0
        """Rows sent or waiting to be sent."""
        self._task = asyncio.create_task(self._run(), name=f"experts {handle.address}")

    def submit(self, part: Part) -> None:
        """Send `part` as soon as the window allows; only while the link is open."""
        self.load += part.num_rows
        self._waiting.append(part)
        self._fill()

    def drop(self, pending: object) -> None:
        """Forget the parts of a dispatch that nobody waits for any more."""
        for part in [part for part in self._waiting if part.pending is pending]:
            self._waiting.remove(part)
            self.load -= part.num_rows
        for sequence, part in list(self._flying.items()):
            if part.pending is pending:
                self._done(sequence)
                self._send(pb.StreamRequest(cancel=pb.Cancel(sequence=sequence)).SerializeToString())

    def check(self, now: float, detection_seconds: float) -> None:
        """Break the stream where work is in flight and the shard shows no life, or its step thread no progress."""
        silent = now - self._heard > detection_seconds
        stuck = now - self._moved > STALL_FACTOR * detection_seconds
        if self._flying and self._call is not None and (silent or stuck):
            log.warning("stream silent shard=%s silent=%s stuck=%s", self.handle.peer.name, silent, stuck)
            self._call.cancel()

    def forgive(self, now: float) -> None:
        """Count silence from `now` on: this process itself has slept."""
        self._heard = self._moved = now

    async def close(self) -> None:
        """End the stream."""
        self._closing = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        """Keep the stream open until cancelled."""
        while True:
            error: ServiceError = Unavailable(
                "stream closed", self._where(), "the shard closed it", "it is opened again"
            )
            try:
                await self._converse()
            except grpc.aio.AioRpcError as failure:
                error = from_rpc_error(failure, self._where())
            except ServiceError as failure:
                error = failure
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                error = Unavailable(
                    "stream broken off", self._where(), "the shard showed no life", "it is opened again"
                )
            finally:
                self._closed(error)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _converse(self) -> None:
        """Open a stream, say hello, and take messages until it ends."""
        call = self._call = self._open()
        writer: asyncio.Task[None] | None = None
        try:
            await call.write(pb.StreamRequest(hello=self._hello).SerializeToString())
            while isinstance(data := await call.read(), bytes):
                self._heard = monotonic()
                if writer is not None and self._took(data):
                    continue
                message = self._read(data)
                if message.HasField("welcome"):
                    writer = writer or asyncio.create_task(self._write(call), name="experts writer")
                    self._opened(message.welcome)
                else:
                    self._take(message)
        finally:
            self._call = None
            call.cancel()
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, call: Any) -> None:
        """Write what there is, in order; a broken stream shows in the reader."""
        while True:
            while self._out:
                await call.write(self._out.popleft())
            self._more.clear()
            await self._more.wait()

    def _opened(self, welcome: pb.Welcome) -> None:
        self.window, self.max_rows = max(1, welcome.window), max(1, welcome.max_rows)
        self.leaving = welcome.peer.draining
        self.is_open = True
        self._owner.link_changed()

    def _closed(self, error: ServiceError) -> None:
        """Hand everything that was sent or waits back to the owner."""
        lost = [*self._flying.values(), *self._waiting]
        was_open, self.is_open = self.is_open, False
        self._flying.clear()
        self._waiting.clear()
        self._out.clear()
        self.load = 0
        if was_open and not self._closing:
            log.warning("stream lost error=%s batches=%d", error, len(lost))
            self._owner.link_broken(self, error)
            for part in lost:
                self._owner.part_failed(self, part, str(error))
            self._owner.link_changed()

    def _read(self, data: bytes) -> pb.StreamResponse:
        """Return any message.

        Raises:
            InvalidRequest: it is none.
        """
        try:
            return pb.StreamResponse.FromString(data)
        except DecodeError as error:
            raise InvalidRequest("stream broken off", self._where(), f"the shard sent no message: {error}") from error

    def _took(self, data: bytes) -> bool:
        """Handle the usual message of an open stream, a good result; return whether it was one."""
        reply = self._messages.read_answer(data) if self._messages else None
        if reply is None:
            return False
        self._moved = self._heard
        part = self._done(reply.sequence)
        if part is not None:
            try:
                part.take(reply, data)
            except InvalidRequest as error:
                self._owner.part_failed(self, part, str(error))
        return True

    def _take(self, message: pb.StreamResponse) -> None:
        """Handle one message of an open stream."""
        kind = message.WhichOneof("kind")
        if kind == "result":
            self._moved = self._heard
            self._take_result(message.result)
        elif kind == "failure":
            self._moved = self._heard
            self._take_failure(message.failure)
        elif kind == "progress":
            if message.progress.counter != self._counter:
                self._counter, self._moved = message.progress.counter, self._heard
            if message.progress.draining != self.leaving:
                self.leaving = message.progress.draining
                self._owner.link_changed()

    def _take_result(self, result: pb.Result) -> None:
        part = self._done(result.sequence)
        if part is None:
            return
        try:
            part.pending.add(part, part.parse(result))
        except InvalidRequest as error:
            self._owner.part_failed(self, part, str(error))

    def _take_failure(self, failure: pb.Failure) -> None:
        part = self._done(failure.sequence)
        if failure.HasField("peer"):
            self._owner.told(self, failure)
        if part is None:
            return
        if failure.error in (pb.BATCH_ERROR_INVALID, pb.BATCH_ERROR_UNSPECIFIED):
            part.pending.fail(ServiceError("batch failed", self._where(), failure.message))
        else:
            self._owner.part_failed(self, part, failure.message)

    def _done(self, sequence: int) -> Part | None:
        """Take a part out of the window and let the next one in."""
        part = self._flying.pop(sequence, None)
        if part is not None:
            self.load -= part.num_rows
            self._fill()
        return part

    def _fill(self) -> None:
        """Send what waits while the window has room."""
        now = monotonic()
        while self._waiting and len(self._flying) < self.window:
            part = self._waiting.popleft()
            if not self._flying:
                self._heard = self._moved = now
            self._sequence += 1
            part.sequence = self._sequence
            self._flying[part.sequence] = part
            self._send(part.message(self._weight_version, now, self._messages))

    def _send(self, message: bytes) -> None:
        self._out.append(message)
        self._more.set()

    def _where(self) -> str:
        return f"{self.handle.peer.name} ({self.handle.address})"
