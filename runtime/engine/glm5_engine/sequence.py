"""One sequence of tokens with its rows in the cache: a choice of a request, or a prompt whose cache is wanted."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from torch import Tensor

from glm5_engine.logprobs import TokenLogprob
from glm5_engine.pages import PAGE_SIZE
from glm5_engine.request import Request
from glm5_engine.sampler import Choice


class State(Enum):
    """Where a sequence is."""

    WAITING = auto()
    """In the queue, or preempted; holds no pages."""
    FETCHING = auto()
    """A prefill worker computes its rows; pages come as chunks do."""
    FORKING = auto()
    """Waits for the first choice of its request to compute the prompt; holds no pages."""
    RUNNING = auto()
    """Takes part in steps."""
    COMPUTED = auto()
    """A prompt without choices whose rows are all there; holds its pages until it is let go."""
    OVER = auto()
    """Finished, failed or cancelled."""


class Cancellable(Protocol):
    """A running fetch."""

    def cancel(self) -> object:
        """Stop it; it does not touch the sequence again."""


@dataclass(eq=False, slots=True)
class Sequence:
    """Tokens, and how many of their rows are cached.

    Args:
        request: that it belongs to.
        choice: how its tokens are drawn; None where only the cache is wanted.
        tokens: prompt and output so far.
    """

    request: Request
    choice: Choice | None
    tokens: list[int]
    leader: "Sequence | None" = None
    """The first choice of the request, whose prompt rows this one will share."""
    state: State = State.WAITING
    age: int = -1
    """Number of its first admission: the highest is the youngest. -1 before."""
    cached: int = 0
    """Rows in the cache; the next step begins with this one."""
    pages: list[int] = field(default_factory=list)
    table: Tensor | None = None
    """`pages` as int64, made by the step that needs it; None after a change."""
    fetch: Cancellable | None = None
    may_fetch: bool = True
    """False after a fetch failed for good: the rest is computed here."""
    in_step: bool = False
    """Rows of it are being computed: its pages stay until the step ends."""
    is_unwanted: bool = False
    """Nobody wants its further tokens: it ends with the step that computes it."""
    num_preemptions: int = 0
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    """Of the prompt's tokens 1, 2 and so on, as far as they are known."""

    @property
    def num_prompt(self) -> int:
        """Return the length of the prompt in tokens."""
        return len(self.request.prompt)

    @property
    def num_pending(self) -> int:
        """Return how many rows are not cached yet."""
        return len(self.tokens) - self.cached

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Return whether logprobs of prompt tokens are asked for and some are unknown."""
        return self.request.prompt_logprobs is not None and self.leader is None and self._unknown > 0

    @property
    def _unknown(self) -> int:
        return self.num_prompt - 1 - len(self.prompt_logprobs)

    @property
    def write_page(self) -> int | None:
        """Return the index in `pages` of the page that the next row goes to, or None where it needs a new one."""
        index = self.cached // PAGE_SIZE
        return index if index < len(self.pages) else None


@dataclass(frozen=True, slots=True)
class Entry:
    """Rows of one sequence in a step: `count` of them from position `start`."""

    sequence: Sequence
    start: int
    count: int

    @property
    def end(self) -> int:
        """Return the position after the last row."""
        return self.start + self.count

    @property
    def wants_all(self) -> bool:
        """Return whether the logits of every row are wanted, for the logprobs of the prompt."""
        sequence = self.sequence
        return sequence.wants_prompt_logprobs and self.end > len(sequence.prompt_logprobs)

    @property
    def samples(self) -> bool:
        """Return whether a token is drawn after the last row."""
        return self.sequence.choice is not None and self.end == len(self.sequence.tokens)
