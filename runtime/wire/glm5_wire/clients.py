"""Typed clients of the decode and prefill workers: server streams with a watchdog over the peer's progress."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc.aio

from glm5.v1 import decode_service_pb2 as decode
from glm5.v1 import decode_service_pb2_grpc as decode_rpc
from glm5.v1 import prefill_service_pb2 as prefill
from glm5.v1 import prefill_service_pb2_grpc as prefill_rpc
from glm5_wire import tracing
from glm5_wire.errors import Unavailable, from_rpc_error
from glm5_wire.watcher import STALL_FACTOR, PeerHandle


class DecodeClient:
    """Calls one decode worker.

    Args:
        handle: the worker.
        detection_seconds: a stream without an event for this long is broken off.
    """

    def __init__(self, handle: PeerHandle, detection_seconds: float = 3.0) -> None:
        self._handle, self._detection = handle, detection_seconds
        self._stub = decode_rpc.DecodeServiceStub(handle.channel)

    def generate(
        self, request: decode.GenerateRequest, timeout: float | None = None
    ) -> AsyncIterator[decode.GenerateResponse]:
        """Yield the events of a request; closing the iterator cancels it on the worker.

        Args:
            request: what to generate.
            timeout: seconds for the whole stream; None means no limit.

        Raises:
            ServiceError: what the worker raised; Unavailable where it is dead, silent or stands still.
        """
        call = self._stub.Generate(request, timeout=timeout, metadata=tracing.metadata())
        return _events(call, self._handle, self._detection)

    async def end_choices(self, stream: int, choices: Iterable[int]) -> None:
        """Stop choices of an open stream; its others go on.

        Args:
            stream: its number, as in `Accepted`.
            choices: by index.

        Raises:
            ServiceError: the worker could not be told.
        """
        request = decode.EndChoicesRequest(stream=stream, choices=choices)
        try:
            await self._stub.EndChoices(request, timeout=self._detection, metadata=tracing.metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, _where(self._handle)) from error


class PrefillClient:
    """Calls one prefill worker.

    Args:
        handle: the worker.
        detection_seconds: a stream without an event for this long is broken off.
    """

    def __init__(self, handle: PeerHandle, detection_seconds: float = 3.0) -> None:
        self._handle, self._detection = handle, detection_seconds
        self._stub = prefill_rpc.PrefillServiceStub(handle.channel)

    def run(self, request: prefill.RunRequest, timeout: float | None = None) -> AsyncIterator[prefill.RunResponse]:
        """Yield the events of a run; closing the iterator cancels it on the worker.

        Raises:
            ServiceError: what the worker raised; Unavailable where it is dead, silent or stands still.
        """
        call = self._stub.Run(request, timeout=timeout, metadata=tracing.metadata())
        return _events(call, self._handle, self._detection)


async def _events(call: Any, handle: PeerHandle, detection_seconds: float) -> AsyncIterator[Any]:
    """Yield the messages of `call` while its server shows life."""
    watchdog = _Watchdog(handle, STALL_FACTOR * detection_seconds)
    try:
        while True:
            async with asyncio.timeout(detection_seconds):
                message = await call.read()
            if message is grpc.aio.EOF:
                return
            watchdog.see(message)
            yield message
    except TimeoutError as error:
        why = f"no event for {detection_seconds:g} s"
        raise Unavailable("stream is silent", _where(handle), why, "try elsewhere") from error
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, _where(handle)) from error
    finally:
        call.cancel()


class _Watchdog:
    """Notices a step counter that stands still though the request is not queued."""

    def __init__(self, handle: PeerHandle, patience_seconds: float) -> None:
        self._handle, self._patience = handle, patience_seconds
        self._counter, self._since = -1, time.monotonic()

    def see(self, message: Any) -> None:
        """Note one event.

        Raises:
            Unavailable: the counter has stood still for longer than the patience.
        """
        now = time.monotonic()
        progress = message.progress if message.HasField("progress") else None
        if progress is None or progress.queued or progress.counter != self._counter:
            self._counter, self._since = progress.counter if progress is not None else -1, now
        elif now - self._since > self._patience:
            why = f"its step counter stands at {self._counter} for {now - self._since:.1f} s"
            raise Unavailable("worker stands still", _where(self._handle), why, "try elsewhere")


def _where(handle: PeerHandle) -> str:
    return f"{handle.peer.name} ({handle.address})"
