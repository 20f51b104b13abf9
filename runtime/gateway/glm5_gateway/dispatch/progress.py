"""What of a request has been delivered: all that a continuation needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from glm5.v1 import decode_service_pb2 as pb
from glm5.v1.sampling_pb2 import SamplingParams
from glm5_gateway.events import Ended, Event, FinishReason, PromptScores, Tokens
from glm5_gateway.metrics import DUPLICATES
from glm5_wire.errors import Unavailable

_REASONS: dict[int, FinishReason] = {pb.FINISH_REASON_STOP: "stop", pb.FINISH_REASON_LENGTH: "length"}


@dataclass(frozen=True, slots=True)
class Job:
    """One prompt and its choices."""

    id: str
    """Unique, the same in every attempt."""
    prompt: Sequence[int]
    sampling: Sequence[SamplingParams]
    """One for each choice."""
    key: str = ""
    """Whose turn it takes in queues."""


@dataclass(slots=True)
class Delivered:
    """Tokens of each choice that the client side has, and which choices are still open."""

    job: Job
    tokens: list[list[int]] = field(init=False)
    open: set[int] = field(init=False)
    scores: bool = False
    """Whether the prompt's logprobs have come."""

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.tokens = [[] for _ in self.job.sampling]
        self.open = set(range(len(self.job.sampling)))

    def request(self, attempt: int, compat: str) -> pb.GenerateRequest:
        """Return the request for what is left."""
        request = pb.GenerateRequest(
            request_id=self.job.id,
            prompt_token_ids=self.job.prompt,
            attempt=attempt,
            compat=compat,
            fairness_key=self.job.key,
        )
        for index in sorted(self.open):
            choice = request.choices.add(index=index, output_token_ids=self.tokens[index])
            choice.sampling.CopyFrom(self.job.sampling[index])
            if self.scores:
                choice.sampling.prompt_logprobs = False
        return request

    def take(self, response: pb.GenerateResponse) -> Iterator[Event]:
        """Yield what is new in `response`.

        Raises:
            Unavailable: tokens are missing in between; the stream is broken.
        """
        if response.HasField("tokens"):
            yield from self._take_tokens(response.tokens)
        elif response.HasField("finished"):
            yield from self._take_end(response.finished)
        elif response.HasField("prompt_logprobs") and not self.scores:
            self.scores = True
            yield PromptScores(response.prompt_logprobs.logprobs)

    def _take_tokens(self, batch: pb.TokenBatch) -> Iterator[Event]:
        """Yield the tokens that are new."""
        if batch.choice not in self.open:
            return
        known = self.tokens[batch.choice]
        doubled = len(known) - batch.first_index
        if doubled < 0:
            why = f"choice {batch.choice} goes on at token {batch.first_index}, {len(known)} are known"
            raise Unavailable("a stream skipped tokens", self.job.id, why, "it is opened again")
        DUPLICATES.inc(min(doubled, len(batch.token_ids)))
        fresh = batch.token_ids[doubled:]
        if fresh:
            known.extend(fresh)
            yield Tokens(batch.choice, fresh, batch.logprobs[doubled:])

    def _take_end(self, finished: pb.Finished) -> Iterator[Event]:
        """Yield the end of a choice, once."""
        if finished.choice not in self.open:
            return
        reason = _REASONS.get(finished.reason)
        if reason is None:
            raise Unavailable("a stream ended without a reason", self.job.id, "", "it is opened again")
        self.open.discard(finished.choice)
        yield Ended(finished.choice, reason, finished.stop_token_id, finished.num_cached_tokens)
