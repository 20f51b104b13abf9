"""Stop strings: text passes until one of them appears."""

from collections.abc import Sequence

from glm5_gateway.text.partial import first_of, held_back


class StopStrings:
    """A filter over the text of one choice; holds back less than the longest stop string.

    Args:
        stops: the strings; none lets everything pass.
        include: whether a matched stop string stays in the output.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._pending = ""
        self.matched: str | None = None

    def push(self, text: str, *, check: bool = True) -> str:
        """Return the text that may be shown; after a match nothing more.

        Args:
            text: the next piece.
            check: False lets it pass unseen (before `min_tokens`).
        """
        if self.matched is not None or not text:
            return ""
        if not self._stops:
            return text
        self._pending += text
        if not check:
            return self._release(0)
        found = first_of(self._pending, self._stops)
        if found is None:
            return self._release(held_back(self._pending, self._stops))
        place, self.matched = found
        shown = self._pending[: place + len(self.matched) if self._include else place]
        self._pending = ""
        return shown

    def finish(self) -> str:
        """Return what was held back; the output ended before it became a stop string."""
        return self._release(0)

    def _release(self, keep: int) -> str:
        """Return the pending text but its last `keep` characters."""
        shown, self._pending = self._pending[: len(self._pending) - keep], self._pending[len(self._pending) - keep :]
        return shown
