"""Between the engine's values and those of the wire that prefill and decode share."""

from pydantic import ValidationError

from glm5.v1 import sampling_pb2 as pb
from glm5_engine.logprobs import TokenLogprob
from glm5_spec.sampling import SamplingParams
from glm5_wire.errors import InvalidRequest


def logprob_message(value: TokenLogprob) -> pb.TokenLogprob:
    """Return a logprob as a message."""
    top = [pb.TopLogprob(token_id=token_id, logprob=logprob) for token_id, logprob in value.top]
    return pb.TokenLogprob(token_id=value.token_id, logprob=value.logprob, rank=value.rank, top=top)


def logprob_from(message: pb.TokenLogprob) -> TokenLogprob:
    """Return the logprob in a message; its numbers are those of float32."""
    top = tuple((alternative.token_id, alternative.logprob) for alternative in message.top)
    return TokenLogprob(message.token_id, message.logprob, message.rank, top)


def params_from(message: pb.SamplingParams, choice: int) -> SamplingParams:
    """Return the sampling parameters in a message, checked.

    Raises:
        InvalidRequest: a value is outside its range; names the field.
    """
    try:
        return SamplingParams(
            temperature=message.temperature,
            top_p=message.top_p,
            top_k=message.top_k,
            min_p=message.min_p,
            repetition_penalty=message.repetition_penalty,
            presence_penalty=message.presence_penalty,
            frequency_penalty=message.frequency_penalty,
            logit_bias=dict(message.logit_bias),
            seed=message.seed,
            stop_token_ids=tuple(message.stop_token_ids),
            min_tokens=message.min_tokens,
            ignore_eos=message.ignore_eos,
            max_tokens=message.max_tokens,
            logprobs=message.logprobs,
            top_logprobs=message.top_logprobs,
            prompt_logprobs=message.prompt_logprobs,
        )
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(map(str, fault["loc"]))
        cure = "see docs/sampling.md for the ranges"
        raise InvalidRequest(
            "invalid sampling", f"choice {choice}", f"{field}: {fault['msg']}", cure, param=field
        ) from error
