"""Sampling parameters: the request's, then the checkpoint's, then ours."""

import pytest

from glm5_gateway.requests.chat import ChatBody
from glm5_gateway.requests.sampling import resolved_max_tokens, sampling_params
from glm5_wire.errors import InvalidRequest


def params(defaults=None, **fields):
    body = ChatBody.model_validate({"messages": [{"role": "user", "content": ""}]} | fields)
    return sampling_params(body, defaults or {}, max_tokens=8, vocab_size=100, top_logprobs=None)


def test_the_request_wins_over_the_checkpoint_and_the_checkpoint_over_us():
    defaults = {"temperature": 0.5, "top_p": 0.9}
    assert params().temperature == 1.0
    assert params(defaults).temperature == 0.5
    assert params(defaults, temperature=0.25).temperature == 0.25
    assert params(defaults, temperature=0.25).top_p == 0.9


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 5e-324}, {"do_sample": False}])
def test_what_is_greedy(fields):
    assert params({"temperature": 0.7}, **fields).temperature == 0


def test_a_seed_is_kept_and_a_missing_one_is_drawn():
    assert params(seed=7).seed == 7
    assert params(seed=-1).seed == 2**64 - 1
    assert len({params().seed for _ in range(8)}) == 8


def test_off_is_zero_on_the_wire():
    assert params(top_k=-1).top_k == 0
    assert params(logit_bias={"7": -100}).logit_bias == {7: -100.0}


def test_without_a_wish_the_rest_of_the_context_is_the_limit():
    assert resolved_max_tokens(None, 10, 64, "messages") == 54
    assert resolved_max_tokens(54, 10, 64, "messages") == 54
    for wanted, prompt in ((55, 10), (None, 64)):
        with pytest.raises(InvalidRequest, match="maximum context length is 64 tokens"):
            resolved_max_tokens(wanted, prompt, 64, "messages")
