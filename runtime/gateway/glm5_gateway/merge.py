"""Several streams as one."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")
_LENGTH = 64
"""Items that wait at most: a slow reader slows its streams down."""


async def merged(sources: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Yield (index of the source, item) as they come, until all sources have ended.

    Raises:
        Exception: whatever the first failing source raised; the others are closed.
    """
    if len(sources) == 1:
        async with aclosing(sources[0]) as only:
            async for item in only:
                yield 0, item
        return
    queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue(_LENGTH)
    pumps = [asyncio.create_task(_pump(index, source, queue)) for index, source in enumerate(sources)]
    try:
        left = len(pumps)
        while left:
            index, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield index, item
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(index: int, source: AsyncGenerator[T, None], queue: "asyncio.Queue[tuple[int, Any]]") -> None:
    """Move the items of one source, then None or its error."""
    end: Exception | None = None
    try:
        async with aclosing(source) as items:
            async for item in items:
                await queue.put((index, item))
    except Exception as error:  # noqa: BLE001 - raised again by the reader
        end = error
    await queue.put((index, end))
