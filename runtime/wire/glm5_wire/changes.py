"""A version number that tasks can wait for: the registry's and the description's changes."""

import asyncio
import contextlib


class Changes:
    """A counter of changes. Belongs to one event loop."""

    def __init__(self) -> None:
        self.version = 0
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Count one change and wake everybody who waits."""
        self.version += 1
        self._event.set()
        self._event = asyncio.Event()

    async def after(self, version: int, timeout_seconds: float) -> int:
        """Return the version once it is not `version` any more, or after the timeout."""
        if self.version == version:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self._event.wait()
        return self.version
