"""What one step adds to a choice."""

from dataclasses import dataclass, field
from typing import NamedTuple

from glm5.v1.sampling_pb2 import TokenLogprob
from glm5_gateway.text.tool_calls import CallArguments, CallStart


class Text(NamedTuple):
    """A run of the answer's text."""

    text: str


class Reasoning(NamedTuple):
    """A run of reasoning."""

    text: str


Piece = Text | Reasoning | CallStart | CallArguments


@dataclass(slots=True)
class Delta:
    """New pieces of a choice, in order, and the tokens that they came from."""

    pieces: list[Piece] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    """Set once, in the last delta."""
    stop_reason: str | int | None = None
    """The stop string or stop token id of the request that ended it."""

    @property
    def text(self) -> str:
        """Return the answer's text in this delta."""
        return "".join(piece.text for piece in self.pieces if isinstance(piece, Text))

    @property
    def reasoning(self) -> str:
        """Return the reasoning in this delta."""
        return "".join(piece.text for piece in self.pieces if isinstance(piece, Reasoning))
