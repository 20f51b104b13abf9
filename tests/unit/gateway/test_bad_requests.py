"""Every kind of bad request has its own answer, in OpenAI's shape, that names the field."""

import gzip
import json

import pytest

from unit.gateway.support import MAX_LEN, VOCAB_SIZE

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f"}}


def chat(**fields):
    return CHAT, {"messages": [USER]} | fields


def completion(**fields):
    return COMPLETION, {"prompt": "hi"} | fields


# What is wrong: (path, body), status, param, a part of the message.
CASES = {
    "not JSON": ((CHAT, b"{'a'"), 400, None, "not valid JSON"),
    "not an object": ((CHAT, b"[]"), 400, None, "must be a JSON object"),
    "no body": ((CHAT, b""), 400, None, "not valid JSON"),
    "NaN": ((CHAT, b'{"temperature": NaN}'), 400, None, "not valid JSON"),
    "a lone surrogate": (
        (CHAT, b'{"messages": [{"role": "user", "content": "\\ud800"}]}'),
        400,
        None,
        "not valid JSON",
    ),
    "not UTF-8": ((CHAT, b'{"model": "\xff"}'), 400, None, "not valid JSON"),
    "compressed": ((CHAT, gzip.compress(b"{}")), 400, None, "not valid JSON"),
    "too deep": ((CHAT, b'{"messages": ' + b"[" * 5000 + b"]" * 5000 + b"}"), 400, None, "recursion"),
    "too large": (completion(prompt="x" * (1 << 20)), 413, None, "at most 1048576 bytes"),
    "no messages": ((CHAT, {}), 400, "messages", "is missing"),
    "empty messages": (chat(messages=[]), 400, "messages", "at least 1"),
    "messages are text": (chat(messages="hi"), 400, "messages", "valid list"),
    "a message is text": (chat(messages=["hi"]), 400, "messages[0]", "valid dictionary"),
    "no role": (chat(messages=[{"content": "hi"}]), 400, "messages[0].role", "is missing"),
    "unknown role": (chat(messages=[USER, {"role": "robot", "content": ""}]), 400, "messages[1].role", "'robot'"),
    "content is a number": (chat(messages=[{"role": "user", "content": 5}]), 400, "messages[0].content", "not 5"),
    "an image": (
        chat(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
        400,
        "messages[0].content[0].type",
        "not supported",
    ),
    "no content": (chat(messages=[{"role": "user"}]), 400, "messages[0].content", "is missing"),
    "unknown model": (chat(model="gpt-x"), 404, "model", "`gpt-x` does not exist"),
    "model is a number": (chat(model=5), 400, "model", "valid string"),
    "temperature too high": (chat(temperature=101), 400, "temperature", "less than or equal to 100"),
    "temperature is text": (chat(temperature="0.5"), 400, "temperature", "valid number"),
    "temperature is a boolean": (chat(temperature=True), 400, "temperature", "valid number"),
    "top_p is 0": (chat(top_p=0), 400, "top_p", "greater than 0"),
    "top_k below -1": (chat(top_k=-2), 400, "top_k", "greater than or equal to -1"),
    "min_p above 1": (chat(min_p=1.5), 400, "min_p", "less than or equal to 1"),
    "presence_penalty": (chat(presence_penalty=3), 400, "presence_penalty", "less than or equal to 2"),
    "repetition_penalty": (chat(repetition_penalty=0), 400, "repetition_penalty", "greater than or equal to 0.01"),
    "n is 0": (chat(n=0), 400, "n", "greater than or equal to 1"),
    "n is 9": (chat(n=9), 400, "n", "less than or equal to 8"),
    "n is a fraction": (chat(n=1.5), 400, "n", "valid integer"),
    "seed is text": (chat(seed="x"), 400, "seed", "valid integer"),
    "seed too large": (chat(seed=2**64), 400, "seed", "less than"),
    "max_tokens is 0": (chat(max_tokens=0), 400, "max_tokens", "at least 1"),
    "max_tokens is negative": (chat(max_tokens=-1), 400, "max_tokens", "greater than or equal to 0"),
    "more than fits": (chat(max_tokens=MAX_LEN), 400, "messages", f"maximum context length is {MAX_LEN} tokens"),
    "prompt too long": (completion(prompt=[1] * MAX_LEN), 400, "prompt", f"{MAX_LEN} in the prompt"),
    "min_tokens above max_tokens": (chat(min_tokens=5, max_tokens=4), 400, "min_tokens", "5 is above max_tokens, 4"),
    "17 stop strings": (chat(stop=["x"] * 17), 400, "stop", "at most 16"),
    "an empty stop string": (chat(stop=[""]), 400, "stop[0]", "at least 1 character"),
    "stop is a number": (chat(stop=7), 400, "stop", "not 7"),
    "stop token outside": (chat(stop_token_ids=[VOCAB_SIZE]), 400, "stop_token_ids[0]", "outside the vocabulary"),
    "bias of no token": (chat(logit_bias={"word": 1}), 400, "logit_bias", "'word'"),
    "bias outside": (chat(logit_bias={str(VOCAB_SIZE): 1}), 400, "logit_bias", "no token id"),
    "bias too large": (chat(logit_bias={"1": 101}), 400, "logit_bias.1", "less than or equal to 100"),
    "top_logprobs alone": (chat(top_logprobs=1), 400, "top_logprobs", "needs `logprobs`"),
    "21 top_logprobs": (chat(logprobs=True, top_logprobs=21), 400, "top_logprobs", "less than or equal to 20"),
    "logprobs is a number": (chat(logprobs=1), 400, "logprobs", "valid boolean"),
    "stream_options alone": (chat(stream_options={}), 400, "stream_options", "needs `stream`"),
    "stream is text": (chat(stream="yes"), 400, "stream", "valid boolean"),
    "a tool without type": (chat(tools=[{"function": {"name": "f"}}]), 400, "tools[0].type", "is missing"),
    "a tool of another type": (chat(tools=[{"type": "web_search"}]), 400, "tools[0].type", "'function'"),
    "a tool without name": (
        chat(tools=[{"type": "function", "function": {}}]),
        400,
        "tools[0].function.name",
        "missing",
    ),
    "a name with spaces": (
        chat(tools=[{"type": "function", "function": {"name": "a b"}}]),
        400,
        "tools[0].function.name",
        "pattern",
    ),
    "tool_choice required": (chat(tools=[TOOL], tool_choice="required"), 400, "tool_choice", "not supported"),
    "a named tool_choice": (chat(tools=[TOOL], tool_choice=TOOL), 400, "tool_choice", "not supported"),
    "tool_choice wrong": (chat(tool_choice="maybe"), 400, "tool_choice", "'maybe'"),
    "reasoning_effort wrong": (chat(reasoning_effort="huge"), 400, "reasoning_effort", "'huge'"),
    "thinking wrong": (chat(thinking={"type": "x"}), 400, "thinking.type", "'x'"),
    "response_format": (chat(response_format={"type": "json_object"}), 400, "response_format", "not supported"),
    "functions": (chat(functions=[{"name": "f"}]), 400, "functions", "not supported"),
    "audio": (chat(audio={"voice": "x"}), 400, "audio", "not supported"),
    "guided_json": (chat(guided_json={}), 400, "guided_json", "not supported"),
    "structured_outputs": (chat(structured_outputs={"regex": "a"}), 400, "structured_outputs", "not supported"),
    "beam search": (chat(use_beam_search=True), 400, "use_beam_search", "not supported"),
    "a chat template": (chat(chat_template="{{ 1 }}"), 400, "chat_template", "not supported"),
    "no prompt": ((COMPLETION, {}), 400, "prompt", "is missing"),
    "prompt is null": (completion(prompt=None), 400, "prompt", "NoneType"),
    "prompt is empty": (completion(prompt=""), 400, "prompt", "is empty"),
    "prompts are empty": (completion(prompt=[]), 400, "prompt", "is empty"),
    "a prompt is empty": (completion(prompt=["a", ""]), 400, "prompt[1]", "is empty"),
    "prompt is a number": (completion(prompt=5), 400, "prompt", "of type int"),
    "prompts of both kinds": (completion(prompt=[1, "a"]), 400, "prompt[1]", "no token id"),
    "a token outside": (completion(prompt=[0, VOCAB_SIZE]), 400, "prompt[1]", "outside the vocabulary"),
    "a negative token": (completion(prompt=[[1], [-1]]), 400, "prompt[1][0]", "no token id"),
    "129 prompts": (completion(prompt=["a"] * 129), 400, "prompt", "129 prompts"),
    "best_of": (completion(best_of=3), 400, "best_of", "not supported"),
    "suffix": (completion(suffix="x"), 400, "suffix", "not supported"),
    "logprobs above 20": (completion(logprobs=21), 400, "logprobs", "less than or equal to 20"),
    "tokenize nothing": (("/tokenize", {}), 400, "prompt", "exactly one"),
    "tokenize both": (("/tokenize", {"prompt": "a", "messages": [USER]}), 400, "prompt", "exactly one"),
    "detokenize outside": (("/detokenize", {"tokens": [VOCAB_SIZE]}), 400, "tokens[0]", "outside the vocabulary"),
    "detokenize nothing": (("/detokenize", {}), 400, "tokens", "is missing"),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_bad_request_is_refused_with_the_name_of_the_field(make_client, name):
    (path, body), status, param, words = CASES[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with make_client() as client:
        response = await client.post(path, content=content)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param), error
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert error["code"]
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "text"}, "functions": None, "use_beam_search": False, "length_penalty": 1.0},
        {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "never_heard_of": [1], "store": False},
        {"temperature": None, "stop": None, "tools": None, "n": None, "stream_options": None},
        {"temperature": 1, "top_k": -1, "seed": -5, "tool_choice": "auto", "best_of": 4},
    ],
)
async def test_neutral_and_unknown_fields_get_as_far_as_the_workers(make_client, fields):
    async with make_client() as client:
        response = await client.post(CHAT, json={"messages": [USER]} | fields)
    assert response.status_code == 503, response.text
    assert "no decode worker is known" in response.json()["error"]["message"]
    assert response.headers["retry-after"] == "1"


async def test_unknown_fields_are_counted(make_client):
    from glm5_gateway.metrics import UNKNOWN_FIELDS

    before = UNKNOWN_FIELDS._value.get()
    async with make_client() as client:
        await client.post(CHAT, json={"messages": [USER], "never": 1, "heard": 2, "user": "me"})
    assert UNKNOWN_FIELDS._value.get() == before + 2
