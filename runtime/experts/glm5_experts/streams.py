"""ExpertService: one stream per (attention worker, lane); batches in, answers and signs of life out."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from glm5.v1 import expert_service_pb2 as pb
from glm5.v1 import peer_pb2
from glm5_experts import figures
from glm5_experts.check import Checker, max_rows
from glm5_experts.refusal import Refusal
from glm5_experts.runner import Runner, refused
from glm5_experts.work import Lane, Work
from glm5_wire.errors import Incompatible, InvalidRequest, Unavailable
from glm5_wire.tensors.messages import METHOD, SERVICE

log = logging.getLogger(__name__)

_WITH_PEER = {pb.BATCH_ERROR_NOT_HELD, pb.BATCH_ERROR_STALE_WEIGHTS, pb.BATCH_ERROR_DRAINING}


class Streams:
    """Serves the streams of all attention workers.

    Args:
        describe: returns what this shard is now.
        window: batches in flight on one stream.
        period_seconds: longest pause between two messages while work is queued or running.
    """

    def __init__(self, describe: Callable[[], peer_pb2.Peer], window: int, period_seconds: float) -> None:
        self._describe, self._window, self._period = describe, window, period_seconds
        self._open: set[_Stream] = set()
        self.runner: Runner | None = None
        self.checker: Checker | None = None
        self.refusing = False
        """Whether new batches are refused because the process leaves."""

    def __len__(self) -> int:
        return len(self._open)

    def announce_draining(self) -> None:
        """Say on every stream that the shard wants to be left."""
        for stream in self._open:
            stream.send_progress()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve on `server`. Messages are bytes here: the compiled library reads and writes the usual ones."""
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(self.stream)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),))

    async def stream(self, requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Answer batches until the caller closes the stream."""
        if self.runner is None or self.checker is None:
            raise Unavailable(
                "shard not ready", self._describe().name, "it loads its experts", "try again or elsewhere"
            )
        hello = _parsed(await context.read())
        lane = self._accept(hello)
        stream = _Stream(self, context, lane)
        name = "decode" if lane == pb.LANE_DECODE else "prefill"
        self._open.add(stream)
        figures.STREAMS.labels(name).inc()
        log.info("stream open caller=%s lane=%s", hello.hello.caller, name)
        try:
            await stream.run()
        finally:
            self._open.discard(stream)
            figures.STREAMS.labels(name).dec()
            log.info("stream closed caller=%s lane=%s", hello.hello.caller, name)

    def _accept(self, message: pb.StreamRequest) -> Lane:
        """Return the lane of a hello.

        Raises:
            InvalidRequest: the first message is no hello, or names no lane.
            Incompatible: the caller's compat is another one.
        """
        me = self._describe()
        if message.WhichOneof("kind") != "hello":
            raise InvalidRequest("stream refused", me.name, "its first message is no hello", "send one first")
        if message.hello.lane not in (pb.LANE_DECODE, pb.LANE_PREFILL):
            raise InvalidRequest("stream refused", me.name, "its hello names no lane", "set lane")
        if message.hello.compat != me.compat:
            why = f"the caller has compat {message.hello.compat}, this shard {me.compat}"
            raise Incompatible("stream refused", me.name, why, "use one model, weight version, dtype and numerics")
        return message.hello.lane


class _Stream:
    """One open stream: a reader, and a writer that is the only one to write."""

    def __init__(self, owner: Streams, context: grpc.aio.ServicerContext[Any, Any], lane: Lane) -> None:
        self._owner, self._context, self._lane = owner, context, lane
        self._flying: dict[int, Work] = {}
        self._out: deque[bytes] = deque()
        self._more = asyncio.Event()

    async def run(self) -> None:
        """Read and write until the caller closes, then drop what it still wanted."""
        peer = self._owner._describe()
        welcome = pb.Welcome(peer=peer, window=self._owner._window, max_rows=max_rows(self._lane))
        self._send(pb.StreamResponse(welcome=welcome))
        writer = asyncio.create_task(self._write(), name="expert stream writer")
        beats = asyncio.create_task(self._beat(), name="expert stream progress")
        try:
            await self._read()
        finally:
            for work in self._flying.values():
                work.cancelled = True
            for task in (writer, beats):
                task.cancel()
            await asyncio.gather(writer, beats, return_exceptions=True)

    async def _read(self) -> None:
        """Take messages until the caller closes the stream."""
        while isinstance(data := await self._context.read(), bytes):
            assert self._owner.checker is not None
            work = self._owner.checker.usual(data, self._lane, lambda sequence: partial(self._answer, sequence))
            if work is not None:
                self._queue(work.sequence, lambda: work)  # noqa: B023 - called at once
            else:
                self._take(_parsed(data))

    def _take(self, message: pb.StreamRequest) -> None:
        """Handle any message but a valid batch of the usual kind."""
        kind, batch = message.WhichOneof("kind"), message.batch
        checker, answer = self._owner.checker, partial(self._answer, batch.sequence)
        assert checker is not None
        if kind == "batch":
            self._queue(batch.sequence, lambda: checker.work(batch, self._lane, answer))
        elif kind == "cancel":
            if (work := self._flying.pop(message.cancel.sequence, None)) is not None:
                work.cancelled = True
        else:
            raise InvalidRequest("stream broken off", "", f"a message of kind {kind} in mid-stream", "send batches")

    def _queue(self, sequence: int, work: Callable[[], Work]) -> None:
        """Queue a batch, or answer at once why not."""
        runner = self._owner.runner
        assert runner is not None
        try:
            self._require_room(sequence)
            checked = work()
            runner.put(checked)
            self._flying[sequence] = checked
        except Refusal as refusal:
            self._send(refused(sequence, refusal))

    def _require_room(self, sequence: int) -> None:
        if self._owner.refusing:
            raise Refusal(
                pb.BATCH_ERROR_DRAINING, "batch refused: the shard leaves; use another holder, or wait for one"
            )
        if len(self._flying) >= self._owner._window:
            why = f"{len(self._flying)} batches are in flight, the window is {self._owner._window}"
            raise Refusal(pb.BATCH_ERROR_OVERLOADED, f"batch refused: {why}; wait for results")
        if sequence in self._flying:
            raise Refusal(pb.BATCH_ERROR_INVALID, f"batch refused: sequence {sequence} is in flight already")

    def _answer(self, sequence: int, message: pb.StreamResponse | bytes) -> None:
        self._flying.pop(sequence, None)
        self._send(message)

    def send_progress(self) -> None:
        """Say how it stands."""
        runner = self._owner.runner
        assert runner is not None
        progress = pb.Progress(
            counter=runner.progress, queued=len(self._flying), draining=self._owner._describe().draining
        )
        self._send(pb.StreamResponse(progress=progress))

    def _send(self, message: pb.StreamResponse | bytes) -> None:
        if not isinstance(message, bytes):
            if message.WhichOneof("kind") == "failure" and message.failure.error in _WITH_PEER:
                message.failure.peer.CopyFrom(self._owner._describe())
            message = message.SerializeToString()
        self._out.append(message)
        self._more.set()

    async def _beat(self) -> None:
        """Send a sign of life in each period in which work is queued or running."""
        while True:
            await asyncio.sleep(self._owner._period)
            if self._flying and not self._out:
                self.send_progress()

    async def _write(self) -> None:
        """Write what there is, in order."""
        with contextlib.suppress(grpc.aio.UsageError, grpc.aio.AbortError):
            while True:
                while self._out:
                    await self._context.write(self._out.popleft())
                self._more.clear()
                await self._more.wait()


def _parsed(data: Any) -> pb.StreamRequest:
    """Return a message; an empty one where the caller has closed the stream.

    Raises:
        InvalidRequest: `data` is no message.
    """
    try:
        return pb.StreamRequest.FromString(data if isinstance(data, bytes) else b"")
    except DecodeError as error:
        raise InvalidRequest("stream broken off", "", f"what came is no message: {error}", "send batches") from error
