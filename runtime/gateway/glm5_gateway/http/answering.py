"""Runs a call for as long as its client is there, and sends what it says.

A stream's status line waits for the first chunk or an error, at most `hold_seconds`: an error before it has its own
status, which clients retry; after it an error is an event. Every stream ends with `[DONE]`.
"""

import asyncio
import contextlib
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from glm5_gateway.api import Call
from glm5_gateway.errors import error_body
from glm5_gateway.http.reply import DONE, KEEP_ALIVE, error_response, event, json_response
from glm5_gateway.metrics import CANCELLED
from glm5_gateway.pump import Pump
from glm5_wire.errors import ServiceError

KEEP_ALIVE_SECONDS = 5.0
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Answering(Response):
    """The answer to a call, stream or not.

    Args:
        call: ready to run.
        hold_seconds: how long a stream's status waits for the first chunk.
        leaving: set when this process ends; running calls then end with a retriable error.
    """

    def __init__(self, call: Call, hold_seconds: float, leaving: asyncio.Event) -> None:
        super().__init__()
        self._call, self._hold, self._leaving = call, hold_seconds, leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or stop when the client goes away."""
        work = asyncio.create_task(self._stream(send) if self._call.stream else self._whole(scope, receive, send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                CANCELLED.inc()
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
        if not work.cancelled():
            work.result()

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole answer, or its error."""
        async with Pump.of_answer(self._call, self._leaving) as pump:
            item = await pump.next(None)
        response = error_response(item) if isinstance(item, ServiceError) else json_response(item)
        await response(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        """Send chunks as they come."""
        async with Pump.of_objects(self._call, self._leaving) as pump:
            item = await pump.next(self._hold)
            if isinstance(item, ServiceError):
                await _send_response(error_response(item), send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            while item is not Pump.END:
                more = [item, *pump.ready()]
                await send({"type": "http.response.body", "body": b"".join(map(_event, more)), "more_body": True})
                if more[-1] is Pump.END or isinstance(more[-1], ServiceError):
                    break
                item = await pump.next(KEEP_ALIVE_SECONDS)
            await send({"type": "http.response.body", "body": DONE, "more_body": False})


def _event(item: Any) -> bytes:
    """Return an item of a pump as bytes."""
    if item is None:
        return KEEP_ALIVE
    if item is Pump.END:
        return b""
    return event(error_body(item) if isinstance(item, ServiceError) else item)


async def _send_response(response: Response, send: Send) -> None:
    """Send a small answer as it is."""
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body})


async def _disconnected(receive: Receive) -> None:
    """Return when the client has gone."""
    with contextlib.suppress(OSError):
        message: Message = await receive()
        while message["type"] != "http.disconnect":
            message = await receive()
