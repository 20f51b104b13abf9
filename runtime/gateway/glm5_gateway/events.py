"""What a generation says, whatever worker it runs on."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from glm5.v1.sampling_pb2 import TokenLogprob

FinishReason = Literal["stop", "length"]


class PromptScores(NamedTuple):
    """Logprobs of the prompt's tokens from the second on; once, first."""

    logprobs: Sequence[TokenLogprob]


class Tokens(NamedTuple):
    """New tokens of one choice, in order, each exactly once."""

    choice: int
    token_ids: Sequence[int]
    logprobs: Sequence[TokenLogprob]
    """One for each token where asked for, else empty."""


class Ended(NamedTuple):
    """The end of one choice; nothing of it follows."""

    choice: int
    reason: FinishReason
    stop_token_id: int
    """The token that ended it, with reason "stop"; it is not among the tokens."""
    cached_tokens: int
    """Tokens of the prompt that needed no computing."""


Event = PromptScores | Tokens | Ended
