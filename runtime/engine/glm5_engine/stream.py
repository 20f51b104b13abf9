"""What lies between the engine's events and a gRPC handler that writes them, with a sign of life when all is quiet."""

import asyncio
import contextlib
from collections.abc import Iterator
from time import monotonic

from glm5_engine.events import Event
from glm5_wire.errors import Draining

_LAST_SECONDS = 5.0
"""How long readers have to see that their stream was given up."""


class Stream:
    """The events of one request on their way out. Belongs to one event loop and has one reader."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None
        self._is_due = False
        self._is_quiet = False
        self._closed: Draining | None = None

    def put(self, event: Event) -> None:
        """Add an event and wake the reader."""
        self._events.append(event)
        self._wake()

    def tick(self, is_urgent: bool) -> None:
        """Ask the reader for a sign of life if nothing was read since the last tick, or if `is_urgent`."""
        if self._is_quiet or is_urgent:
            self._is_due = True
            self._wake()
        self._is_quiet = True

    def close(self, error: Draining) -> None:
        """Let the reader end with `error`."""
        self._closed = error
        self._wake()

    async def next(self) -> tuple[list[Event], bool]:
        """Return the events that came, and whether a sign of life is due; waits for either.

        Raises:
            Draining: the worker leaves and gives the stream up.
        """
        while not self._events and not self._is_due and self._closed is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._closed is not None:
            raise self._closed
        events, self._events = self._events, []
        due, self._is_due, self._is_quiet = self._is_due, False, False
        return events, due

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Streams:
    """All open streams of a worker.

    Args:
        detection_seconds: a silent stream counts as dead after this long; several signs of life fit into it.
        name: of the worker.
    """

    def __init__(self, detection_seconds: float, name: str) -> None:
        self._period = min(0.5, detection_seconds / 4)
        self._name = name
        self._open: set[Stream] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._leave_at: float | None = None

    def __len__(self) -> int:
        return len(self._open)

    @property
    def is_draining(self) -> bool:
        """Return whether the worker leaves."""
        return self._leave_at is not None

    @property
    def leave_in_ms(self) -> int:
        """Return the milliseconds until streams are closed; 0 where the worker stays."""
        return 0 if self._leave_at is None else max(0, int((self._leave_at - monotonic()) * 1000))

    @contextlib.contextmanager
    def opened(self) -> Iterator[Stream]:
        """Return a new stream, which is closed with the `with` block."""
        stream = Stream()
        self._open.add(stream)
        self._empty.clear()
        try:
            yield stream
        finally:
            self._open.discard(stream)
            if not self._open:
                self._empty.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(self._period)
            for stream in self._open:
                stream.tick(self.is_draining)

    async def drain(self, seconds: float) -> None:
        """Tell all readers that the worker leaves; wait for their ends, and after `seconds` close the rest."""
        self._leave_at = monotonic() + seconds
        for stream in self._open:
            stream.tick(True)
        if await self._ended(seconds):
            return
        why = f"its {seconds:g} s of draining are over"
        for stream in self._open:
            stream.close(Draining("stream given up", self._name, why, "go on elsewhere"))
        await self._ended(_LAST_SECONDS)

    async def _ended(self, seconds: float) -> bool:
        """Wait until no stream is open, for `seconds` at most, and return whether that is so."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        return not self._open
