"""Runs a call in a task of its own, so that waiting for it can be cut short without hurting it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any, ClassVar, Self

from glm5_gateway.api import Call
from glm5_wire.errors import Draining, Internal, ServiceError

log = logging.getLogger(__name__)

_LENGTH = 64
"""Chunks that wait at most: a client that does not read slows its stream down."""


class _End:
    """The end of a stream."""


class Pump:
    """Items of a call: objects, then `END` or a `ServiceError`; nothing after those.

    Args:
        work: puts the items.
        leaving: when set, the call ends with a retriable error.
    """

    END: ClassVar[object] = _End()

    def __init__(self, work: "Callable[[Pump], Awaitable[None]]", leaving: asyncio.Event) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(_LENGTH)
        self._work, self._leaving = work, leaving
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def of_objects(cls, call: Call, leaving: asyncio.Event) -> "Pump":
        """Return the chunks of a call."""

        async def work(pump: Pump) -> None:
            async with aclosing(call.objects()) as objects:
                async for item in objects:
                    await pump._queue.put(item)
            await pump._queue.put(cls.END)

        return cls(work, leaving)

    @classmethod
    def of_answer(cls, call: Call, leaving: asyncio.Event) -> "Pump":
        """Return the whole answer of a call as one item."""

        async def work(pump: Pump) -> None:
            await pump._queue.put(await call.answer())

        return cls(work, leaving)

    async def __aenter__(self) -> Self:
        """Begin to work."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._watch())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop working; the call's streams are closed when this returns."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def next(self, timeout_seconds: float | None) -> Any:
        """Return the next item, None after the timeout."""
        if not self._queue.empty():
            return self._queue.get_nowait()
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._queue.get()
        except TimeoutError:
            return None

    def ready(self) -> list[Any]:
        """Return the items that are there already."""
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]

    async def _run(self) -> None:
        """Work; whatever goes wrong becomes the last item."""
        try:
            await self._work(self)
        except ServiceError as error:
            await self._queue.put(error)
        except Exception as error:
            log.exception("unexpected error")
            why = f"{type(error).__name__}: {error}"
            await self._queue.put(Internal("unexpected error", "gateway", why, "see the log of the gateway"))

    async def _watch(self) -> None:
        """End the call when the process leaves."""
        await self._leaving.wait()
        self._tasks[0].cancel()
        await asyncio.gather(self._tasks[0], return_exceptions=True)
        await self._queue.put(
            Draining("the gateway is leaving", "", "its drain time is over", "send the request again")
        )
