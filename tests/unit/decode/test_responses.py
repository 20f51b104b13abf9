"""Messages of DecodeService: requests in, events out."""

import pytest

from glm5.v1 import decode_service_pb2 as pb
from glm5.v1 import sampling_pb2
from glm5_decode.attempts import Attempts
from glm5_decode.responses import request_from, responses
from glm5_engine.events import Failed, Finished, FinishReason, PromptLogprobs, Started, Token
from glm5_engine.logprobs import TokenLogprob
from glm5_engine.stream import Stream
from glm5_wire.errors import Draining, InvalidRequest, Unavailable


def sampling(**fields):
    return sampling_pb2.SamplingParams(
        **({"temperature": 1, "top_p": 1, "repetition_penalty": 1, "max_tokens": 5} | fields)
    )


def message(**fields):
    choices = [pb.Choice(index=i, sampling=sampling(**fields)) for i in range(2)]
    return pb.GenerateRequest(request_id="r", prompt_token_ids=[1, 2], choices=choices)


def test_a_request_keeps_every_parameter_of_every_choice():
    wanted = message(logit_bias={3: -1.0}, stop_token_ids=[9], top_logprobs=4, logprobs=True, seed=2**64 - 1)
    wanted.choices[1].output_token_ids.extend([7, 8])
    request = request_from(wanted, print)
    assert list(request.prompt) == [1, 2]
    assert [spec.outputs for spec in request.choices] == [(), (7, 8)]
    params = request.choices[0].params
    assert (params.logit_bias, params.stop_token_ids, params.seed) == ({3: -1.0}, (9,), 2**64 - 1)
    assert request.prompt_logprobs is None
    assert request_from(message(prompt_logprobs=True, top_logprobs=4), print).prompt_logprobs == 4


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"top_p": 0}, "top_p"), ({"temperature": -1}, "temperature"), ({"max_tokens": 0}, "max_tokens")],
)
def test_a_parameter_outside_its_range_is_named(fields, param):
    with pytest.raises(InvalidRequest, match=param) as refused:
        request_from(message(**fields), print)
    assert refused.value.param == param


def test_a_request_without_choices_is_refused():
    with pytest.raises(InvalidRequest, match="no choices"):
        request_from(pb.GenerateRequest(prompt_token_ids=[1]), print)


def test_tokens_that_follow_each_other_are_one_run():
    lp = TokenLogprob(6, -1.0, 0)
    events = [Started(), Token(0, 4, 5), Token(0, 5, 6, lp), Token(1, 0, 7), Token(0, 6, 8)]
    events.append(Finished(0, FinishReason.STOP, 9, 2))
    batches = list(responses(events, num_cached_tokens=3))
    runs = [(b.tokens.choice, b.tokens.first_index, list(b.tokens.token_ids)) for b in batches[:3]]
    assert runs == [(0, 4, [5, 6]), (1, 0, [7]), (0, 6, [8])]
    assert [x.token_id for x in batches[0].tokens.logprobs] == [6]
    end = pb.Finished(choice=0, reason=pb.FINISH_REASON_STOP, stop_token_id=9, num_cached_tokens=3, num_preemptions=2)
    assert batches[3].finished == end


def test_prompt_logprobs_are_a_message_of_their_own_even_when_empty():
    (only,) = responses([PromptLogprobs(())], 0)
    assert only.HasField("prompt_logprobs")


def test_a_failure_is_raised_after_what_came_before():
    stream = responses([Token(0, 0, 1), Failed(Unavailable("experts lost"))], 0)
    assert next(stream).tokens.token_ids == [1]
    with pytest.raises(Unavailable, match="experts lost"):
        next(stream)


async def test_a_newer_attempt_closes_the_older_one_and_an_older_one_is_refused():
    attempts, old, new = Attempts(), Stream(), Stream()
    first, second = message(), message()
    first.attempt, second.attempt = 1, 2
    with attempts.opened(first, old), attempts.opened(second, new):
        with pytest.raises(Draining, match="newer"):
            await old.next()
        with pytest.raises(Unavailable, match="attempt 1 came after attempt 2"), attempts.opened(first, Stream()):
            pass
    with attempts.opened(first, Stream()):
        pass


def test_equal_ids_of_two_clients_disturb_nobody():
    attempts = Attempts()
    with attempts.opened(message(), Stream()), attempts.opened(message(), Stream()):
        pass
