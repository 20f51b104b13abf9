"""A process that ends between two writes, where a test asks for it (GLM5_OPERATOR_FAILPOINT_WRITE)."""

import os
from collections.abc import Callable

EXIT_CODE = 86


def leave() -> None:
    """End the process at once: no clean-up, no buffers, as a kill does."""
    os._exit(EXIT_CODE)


class Failpoint:
    """Counts writes and acts after one of them."""

    def __init__(self, write: int = 0, act: Callable[[], None] = leave) -> None:
        self._write = write
        self._act = act
        self.writes = 0
        """Writes to children that were done."""

    def wrote(self) -> None:
        """Note that a write was done, and act if it is the one."""
        self.writes += 1
        if self.writes == self._write:
            self._act()
