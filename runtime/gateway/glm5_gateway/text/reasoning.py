"""Splits reasoning from content: everything up to `</think>` is reasoning where the prompt ends inside `<think>`."""

from enum import Enum
from typing import NamedTuple

from glm5_gateway.text.partial import first_of, held_back

OPEN, CLOSE, TOOL = "<think>", "</think>", "<tool_call>"


class Kind(Enum):
    """What a piece of text is."""

    REASONING = "reasoning"
    CONTENT = "content"


class Piece(NamedTuple):
    """A run of text of one kind; never empty."""

    kind: Kind
    text: str


class ReasoningSplitter:
    """An incremental state machine over the text of one choice.

    Args:
        inside: whether the prompt ended in `<think>`: the output begins as reasoning.
        may_open: whether an output that begins outside may open `<think>` itself.
        tools: whether `<tool_call>` inside reasoning ends it (models forget `</think>`).
    """

    def __init__(self, *, inside: bool, may_open: bool = False, tools: bool = False) -> None:
        self.inside = inside
        self._at_start = inside or may_open
        self._ends = (CLOSE, TOOL) if tools else (CLOSE,)
        self._pending = ""

    def push(self, text: str) -> list[Piece]:
        """Return the pieces that `text` decides."""
        self._pending += text
        if self._at_start and not self._start():
            return []
        if not self.inside:
            return self._all(Kind.CONTENT)
        found = first_of(self._pending, self._ends)
        if found is None:
            return self._reasoning(len(self._pending) - held_back(self._pending, self._ends))
        place, tag = found
        pieces = self._reasoning(place)
        self._pending = self._pending[len(CLOSE) :] if tag == CLOSE else self._pending
        self.inside = False
        return pieces + self._all(Kind.CONTENT)

    def finish(self) -> list[Piece]:
        """Return what was held back: the output ended before it became a tag."""
        self._at_start = False
        return self._all(Kind.REASONING if self.inside else Kind.CONTENT)

    def _start(self) -> bool:
        """Drop one leading `<think>`; return False while it cannot be told apart yet."""
        if self._pending.startswith(OPEN):
            self._pending = self._pending[len(OPEN) :]
            self.inside = True
        elif OPEN.startswith(self._pending):
            return False
        self._at_start = False
        return True

    def _reasoning(self, length: int) -> list[Piece]:
        """Return the first `length` pending characters as reasoning."""
        text, self._pending = self._pending[:length], self._pending[length:]
        return [Piece(Kind.REASONING, text)] if text else []

    def _all(self, kind: Kind) -> list[Piece]:
        """Return everything pending as `kind`."""
        text, self._pending = self._pending, ""
        return [Piece(kind, text)] if text else []
