"""Between the engine's values and the messages of DecodeService."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from glm5.v1 import decode_service_pb2 as pb
from glm5_engine.events import Event, Failed, Finished, FinishReason, PromptLogprobs, Token
from glm5_engine.messages import logprob_message, params_from
from glm5_engine.request import ChoiceSpec, Request
from glm5_wire.errors import InvalidRequest

_REASONS = {FinishReason.STOP: pb.FINISH_REASON_STOP, FinishReason.LENGTH: pb.FINISH_REASON_LENGTH}


def request_from(message: pb.GenerateRequest, emit: Callable[[Event], None]) -> Request:
    """Return the engine's request.

    Raises:
        InvalidRequest: it has no choices, or a sampling parameter is outside its range.
    """
    if not message.choices:
        raise InvalidRequest("invalid request", f"request {message.request_id}", "it has no choices", "send one")
    specs = []
    wanted: int | None = None
    for choice in message.choices:
        params = params_from(choice.sampling, choice.index)
        specs.append(ChoiceSpec(choice.index, params, tuple(choice.output_token_ids)))
        if params.prompt_logprobs:
            wanted = max(wanted or 0, params.top_logprobs)
    return Request(message.request_id, list(message.prompt_token_ids), specs, emit, message.fairness_key, wanted)


def responses(events: Iterable[Event], num_cached_tokens: int) -> Iterator[pb.GenerateResponse]:
    """Yield the messages for `events` in their order; tokens of one choice that follow each other go as one run.

    Raises:
        ServiceError: the request failed.
    """
    for choice, run in groupby(events, lambda event: event.choice if isinstance(event, Token) else None):
        if choice is not None:
            yield pb.GenerateResponse(tokens=_batch(choice, [event for event in run if isinstance(event, Token)]))
            continue
        for event in run:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                yield pb.GenerateResponse(finished=_finished(event, num_cached_tokens))
            elif isinstance(event, PromptLogprobs):
                logprobs = map(logprob_message, event.logprobs)
                yield pb.GenerateResponse(prompt_logprobs=pb.PromptLogprobs(logprobs=logprobs))


def _batch(choice: int, tokens: list[Token]) -> pb.TokenBatch:
    batch = pb.TokenBatch(choice=choice, first_index=tokens[0].index, token_ids=[t.token_id for t in tokens])
    batch.logprobs.extend(logprob_message(t.logprob) for t in tokens if t.logprob is not None)
    return batch


def _finished(event: Finished, num_cached_tokens: int) -> pb.Finished:
    return pb.Finished(
        choice=event.choice,
        reason=_REASONS[event.reason],
        stop_token_id=event.stop_token_id,
        num_cached_tokens=num_cached_tokens,
        num_preemptions=event.num_preemptions,
    )
