"""Bounded, fair admission: at most so many prompts run, at most so many wait, and keys take turns."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from glm5_gateway.metrics import REFUSED, RUNNING, WAITING
from glm5_wire.errors import QueueFull


class Admission:
    """Slots for running prompts. Belongs to one event loop.

    Args:
        max_running: prompts that run at once.
        max_queue: prompts that may wait; one more is refused.
    """

    def __init__(self, max_running: int, max_queue: int) -> None:
        self._max_running, self._max_queue = max_running, max_queue
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.num_running = 0
        self.num_waiting = 0
        self._num_entered = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """Return how many prompts run or wait."""
        return self.num_running + self.num_waiting

    async def until_quiet(self, timeout_seconds: float, quiet_seconds: float) -> None:
        """Return when nothing has run or waited for `quiet_seconds`, or after the timeout."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while True:
                    await self._idle.wait()
                    entered = self._num_entered
                    await asyncio.sleep(quiet_seconds)
                    if entered == self._num_entered:
                        return

    def check(self, count: int) -> None:
        """Refuse a request of `count` prompts that do not fit now.

        Raises:
            QueueFull: another try is promising after a second.
        """
        room = self._max_running - self.num_running + self._max_queue - self.num_waiting
        if count > room:
            REFUSED.inc(count)
            limits = f"limits {self._max_running} and {self._max_queue}"
            why = f"{self.num_running} prompts run and {self.num_waiting} wait ({limits})"
            raise QueueFull("the queue is full", "", why, "try again later", retry_after=1.0)

    @asynccontextmanager
    async def slot(self, key: str) -> AsyncIterator[None]:
        """Hold a slot for the `async with` block; waits for its turn.

        Raises:
            QueueFull: too many wait already.
        """
        await self._enter(key)
        try:
            yield
        finally:
            self.num_running -= 1
            self._wake()

    async def _enter(self, key: str) -> None:
        """Take a slot."""
        self._num_entered += 1
        if self.num_running < self._max_running and not self.num_waiting:
            self.num_running += 1
            self._tell()
            return
        self.check(1)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(key, deque()).append(turn)
        self.num_waiting += 1
        self._tell()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot was given at the same moment
                self.num_running -= 1
            else:
                self._remove(key, turn)
            self._wake()
            raise

    def _wake(self) -> None:
        """Give free slots to those who wait, one a key in turn."""
        while self._queues and self.num_running < self._max_running:
            key, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[key] = queue
            self.num_waiting -= 1
            if not turn.done():
                self.num_running += 1
                turn.set_result(None)
        self._tell()

    def _remove(self, key: str, turn: asyncio.Future[None]) -> None:
        """Forget a turn that its owner gave up."""
        queue = self._queues.get(key)
        if queue is None or turn not in queue:
            return
        queue.remove(turn)
        self.num_waiting -= 1
        if not queue:
            del self._queues[key]

    def _tell(self) -> None:
        """Set the gauges."""
        RUNNING.set(self.num_running)
        WAITING.set(self.num_waiting)
        if self.in_flight:
            self._idle.clear()
        else:
            self._idle.set()
