"""Turns the logits of a step into tokens, ends and events. Used by the engine's loop between steps."""

from collections.abc import Callable
from collections.abc import Sequence as Items

import numpy as np

from glm5_engine import metrics
from glm5_engine.events import Failed, Finished, FinishReason, PromptLogprobs, RowsCached, Token
from glm5_engine.logprobs import token_logprob
from glm5_engine.sampler import Logits, NotFinite, Sampled
from glm5_engine.scheduler import Scheduler
from glm5_engine.sequence import Entry, Sequence, State
from glm5_wire.errors import Internal, ServiceError


def note_rows(scheduler: Scheduler, entry: Entry, logits: Logits) -> None:
    """Note that the rows of `entry` are cached, read the logprobs of the prompt, and let other choices go on.

    Args:
        scheduler: of the engine.
        entry: of a step that was computed.
        logits: [count or 1 or 0, vocabulary], as the entry wanted.
    """
    sequence = entry.sequence
    sequence.cached = entry.end
    _read_prompt_logprobs(entry, logits)
    note_prompt(scheduler, sequence)
    if sequence.choice is None:
        if sequence.num_pending == 0:
            sequence.state = State.COMPUTED
        sequence.request.emit(RowsCached(sequence.cached))


def note_prompt(scheduler: Scheduler, sequence: Sequence) -> None:
    """Once the prompt's rows but the last are cached: let the other choices go on, and emit the prompt's logprobs."""
    request = sequence.request
    if request.is_computed or sequence.leader is not None or sequence.cached < sequence.num_prompt - 1:
        return
    request.is_computed = True
    scheduler.fork(sequence)
    if request.prompt_logprobs is not None and sequence.choice is not None:
        request.emit(PromptLogprobs(tuple(sequence.prompt_logprobs)))


def note_token(scheduler: Scheduler, sequence: Sequence, result: Sampled | NotFinite) -> None:
    """Append a drawn token, or end the choice, or fail the request."""
    choice, request = sequence.choice, sequence.request
    assert choice is not None
    if isinstance(result, NotFinite):
        why, cure = str(result), "check the checkpoint with `glm5 check`, and logit_bias of the request"
        fail(scheduler, [sequence], lambda: Internal("no token can be drawn", request.request_id, why, cure))
        return
    if result.token_id in choice.stop_ids:
        finish(scheduler, sequence, FinishReason.STOP, result.token_id)
        return
    request.emit(Token(choice.index, choice.num_outputs, result.token_id, result.logprob))
    metrics.GENERATION_TOKENS.inc()
    choice.record(result.token_id)
    sequence.tokens.append(result.token_id)
    if choice.num_outputs >= choice.params.max_tokens:
        finish(scheduler, sequence, FinishReason.LENGTH)


def finish(scheduler: Scheduler, sequence: Sequence, reason: FinishReason, stop_token_id: int = 0) -> None:
    """End one choice and free its pages; the request is over with its last choice."""
    assert sequence.choice is not None
    scheduler.remove(sequence)
    request = sequence.request
    request.is_over = not scheduler.sequences(request)
    metrics.FINISHED.labels(reason.name.lower()).inc()
    request.emit(Finished(sequence.choice.index, reason, stop_token_id, sequence.num_preemptions))


def fail(scheduler: Scheduler, sequences: Items[Sequence], error: Callable[[], ServiceError]) -> None:
    """End the requests of `sequences` with one error each and free all that they hold."""
    for request in dict.fromkeys(sequence.request for sequence in sequences):
        if request.is_over:
            continue
        request.is_over = True
        for sequence in scheduler.sequences(request):
            scheduler.remove(sequence)
        cause = error()
        metrics.FAILED.labels(type(cause).__name__).inc()
        request.emit(Failed(cause))


def _read_prompt_logprobs(entry: Entry, logits: Logits) -> None:
    """Append the logprobs of the prompt tokens that the entry's rows predict and that are unknown yet."""
    sequence, num_top = entry.sequence, entry.sequence.request.prompt_logprobs
    if num_top is None or len(logits) != entry.count:
        return
    known = len(sequence.prompt_logprobs)
    for position in range(max(known, entry.start), min(entry.end, sequence.num_prompt - 1)):
        row = logits[position - entry.start].astype(np.float64)
        token = sequence.tokens[position + 1]
        sequence.prompt_logprobs.append(token_logprob(row, 0.0, token, num_top))
