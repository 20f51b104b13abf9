"""Which deployments need a pass: a set of keys with times, each key worked on by one task at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from glm5_operator import metrics

Key = tuple[str, str]
"""Namespace and name of a deployment."""
BATCH_SECONDS = 0.3
"""News of one deployment that come within this time make one pass."""
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
log = logging.getLogger(__name__)


class Queue:
    """Calls `work` for each key that was put in, at most `width` at once and never twice at once for one key."""

    def __init__(self, work: Callable[[Key], Awaitable[float | None]], width: int = 4) -> None:
        """Take the work: it returns after how many seconds it wants to be called again, or None; it may raise."""
        self._work = work
        self._width = asyncio.Semaphore(width)
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def put(self, key: Key, seconds: float = BATCH_SECONDS) -> None:
        """Ask for a pass over `key` in `seconds`; an earlier wish stands."""
        due = asyncio.get_running_loop().time() + seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._changed.set()
        metrics.QUEUED.set(len(self._due))

    def forget(self, key: Key) -> None:
        """Drop what is planned for `key`."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    async def run(self) -> None:
        """Work until cancelled; running passes are cancelled too."""
        try:
            while True:
                self._changed.clear()
                pause = self._start_due()
                try:
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    def _start_due(self) -> float | None:
        """Start every key whose time has come; return the seconds until the next one."""
        now = asyncio.get_running_loop().time()
        for key in [key for key, due in self._due.items() if due <= now and key not in self._running]:
            del self._due[key]
            self._running[key] = asyncio.create_task(self._one(key), name=f"pass {key[0]}/{key[1]}")
        waiting = [due for key, due in self._due.items() if key not in self._running]
        return max(0.0, min(waiting) - now) if waiting else None

    async def _one(self, key: Key) -> None:
        try:
            async with self._width:
                again = await self._work(key)
            self._failures.pop(key, None)
            if again is not None:
                self.put(key, again)
        except Retry:
            self._later(key)
        except Exception:
            # A fault of ours in one deployment must not stop the others, nor be lost.
            log.exception("pass broke deployment=%s/%s", *key)
            self._later(key)
        finally:
            del self._running[key]
            self._changed.set()

    def _later(self, key: Key) -> None:
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.put(key, BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1])


class Retry(Exception):
    """The pass could not be finished; the same is to be tried again, later and later."""
