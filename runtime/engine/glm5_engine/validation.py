"""Refuses what can never work, naming the field, before anything is queued."""

from collections.abc import Sequence

from glm5_engine.facts import Facts
from glm5_engine.request import ChoiceSpec, Request
from glm5_spec.sampling import MAX_CHOICES
from glm5_wire.errors import InvalidRequest


def validate(request: Request, facts: Facts) -> None:
    """Raise where `request` cannot be served with any load.

    Raises:
        InvalidRequest: names the field in `param`.
    """
    if not request.prompt:
        raise _wrong(request, "prompt", "the prompt has no tokens", "send at least one")
    _check_ids(request, "prompt", request.prompt, facts)
    if len(request.prompt) > facts.max_model_len:
        why = f"the prompt has {len(request.prompt)} tokens, max_model_len is {facts.max_model_len}"
        raise _wrong(request, "prompt", why, "send fewer")
    indices = [choice.index for choice in request.choices]
    if len(set(indices)) != len(indices) or any(not 0 <= index < MAX_CHOICES for index in indices):
        why = f"choice indices are {indices}"
        raise _wrong(request, "n", why, f"use different ones from 0 to {MAX_CHOICES - 1}")
    for choice in request.choices:
        _check_choice(request, choice, facts)


def _check_choice(request: Request, choice: ChoiceSpec, facts: Facts) -> None:
    """Check lengths and ids of one choice."""
    num_prompt, max_tokens = len(request.prompt), choice.params.max_tokens
    if num_prompt + max_tokens > facts.max_model_len:
        why = (
            f"prompt of {num_prompt} tokens + max_tokens {max_tokens} = {num_prompt + max_tokens}, "
            f"max_model_len is {facts.max_model_len}"
        )
        cure = f"lower max_tokens to {facts.max_model_len - num_prompt} or shorten the prompt"
        raise _wrong(request, "max_tokens", why, cure)
    if len(choice.outputs) > max_tokens:
        why = f"{len(choice.outputs)} tokens were delivered, max_tokens is {max_tokens}"
        raise _wrong(request, "output_token_ids", why, "send what was delivered")
    _check_ids(request, "output_token_ids", choice.outputs, facts)
    _check_ids(request, "logit_bias", list(choice.params.logit_bias), facts)
    _check_ids(request, "stop_token_ids", choice.params.stop_token_ids, facts)


def _check_ids(request: Request, param: str, ids: Sequence[int], facts: Facts) -> None:
    """Check that `ids` are inside the vocabulary."""
    if ids and (max(ids) >= facts.vocab_size or min(ids) < 0):
        bad = next(token for token in ids if not 0 <= token < facts.vocab_size)
        why = f"token id {bad} is outside the vocabulary of {facts.vocab_size}"
        raise _wrong(request, param, why, f"use ids from 0 to {facts.vocab_size - 1}")


def _wrong(request: Request, param: str, why: str, cure: str) -> InvalidRequest:
    return InvalidRequest("invalid request", f"request {request.request_id}", why, cure, param=param)
