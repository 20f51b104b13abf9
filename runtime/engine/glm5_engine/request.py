"""A request as the engine knows it: token ids in, events out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from glm5_engine.events import Event
from glm5_spec.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class ChoiceSpec:
    """One wanted output of a prompt.

    Args:
        index: of the choice.
        params: how its tokens are drawn.
        outputs: token ids delivered by earlier attempts; the output goes on after them.
    """

    index: int
    params: SamplingParams
    outputs: tuple[int, ...] = ()


@dataclass(eq=False, slots=True)
class Request:
    """A prompt and its choices; without choices only the cache of the prompt is wanted.

    Args:
        request_id: for logs and errors.
        prompt: token ids, at least one.
        choices: wanted outputs.
        emit: is called on the event loop with each event; must not block.
        fairness_key: requests with one key share one turn in admission.
        traceparent: W3C trace context of a sampled request; else empty.
        prompt_logprobs: number of alternatives per prompt token; None where no logprobs are wanted.
    """

    request_id: str
    prompt: Sequence[int]
    choices: Sequence[ChoiceSpec]
    emit: Callable[[Event], None]
    fairness_key: str = ""
    prompt_logprobs: int | None = None
    traceparent: str = ""
    has_started: bool = field(default=False, init=False)
    is_computed: bool = field(default=False, init=False)
    """All rows of the prompt but the last were cached once: the choices have parted."""
    is_over: bool = field(default=False, init=False)
    """Cancelled, failed or finished: no more events."""
