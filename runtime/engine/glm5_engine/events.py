"""What the engine tells whoever submitted a request. A request ends with a Finished per choice, or with one Failed."""

from dataclasses import dataclass
from enum import Enum, auto

from glm5_engine.logprobs import TokenLogprob
from glm5_wire.errors import ServiceError


class FinishReason(Enum):
    """Why a choice ended."""

    STOP = auto()
    LENGTH = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """Token number `index` of the output of a choice."""

    choice: int
    index: int
    token_id: int
    logprob: TokenLogprob | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a choice."""

    choice: int
    reason: FinishReason
    stop_token_id: int = 0
    num_preemptions: int = 0


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Logprobs of the prompt's tokens 1 to n - 1."""

    logprobs: tuple[TokenLogprob, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """The first step with rows of the request begins: it is queued no more."""


@dataclass(frozen=True, slots=True)
class RowsCached:
    """Rows up to `end` of a prompt without choices are in the cache, with the logprobs that the new ones predict."""

    end: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of the whole request; nothing of it is left in the engine."""

    error: ServiceError


Event = Token | Finished | PromptLogprobs | Started | RowsCached | Failed
