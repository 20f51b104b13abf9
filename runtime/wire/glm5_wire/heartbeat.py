"""Proof that the event loop turns: beaten by the loop, read by `/livez` and sent to watchers."""

import asyncio
import time


class Heartbeat:
    """A counter with the time of its last beat."""

    def __init__(self) -> None:
        self.count = 0
        self._at = time.monotonic()

    def beat(self) -> None:
        """Say that the process is alive."""
        self.count += 1
        self._at = time.monotonic()

    def age(self) -> float:
        """Return the seconds since the last beat."""
        return time.monotonic() - self._at

    async def run(self, period_seconds: float = 0.2) -> None:
        """Beat until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(period_seconds)
