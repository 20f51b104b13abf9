"""From tokens to OpenAI's objects: a stream and a whole answer say the same."""

import json
from dataclasses import replace

import pytest

from glm5.v1.sampling_pb2 import TokenLogprob, TopLogprob
from glm5_gateway.output.chat import ChatAnswer, ChatForm
from glm5_gateway.output.choice import ChoiceOutput, OutputPlan
from glm5_gateway.output.completion import CompletionAnswer, CompletionChoice
from glm5_gateway.output.delta import Delta

TOOLS = {"f": {"properties": {"s": {"type": "string"}}}}
CALL = "<tool_call>f<arg_key>s</arg_key><arg_value>ü🙊</arg_value></tool_call>"


def deltas(tokenizer, text, plan, reason="stop", size=1, stop_token=0):
    output = ChoiceOutput(tokenizer, plan)
    ids = tokenizer.encode(text)
    for start in range(0, len(ids), size):
        yield output.push(
            ids[start : start + size], [TokenLogprob(token_id=i, logprob=-1) for i in ids[start : start + size]]
        )
        if output.done:
            return
    yield output.finish(reason, stop_token)


def message(tokenizer, text, plan, **options):
    answer = ChatAnswer()
    for delta in deltas(tokenizer, text, plan, **options):
        answer.add(delta)
    return answer


THINKING = OutputPlan(splits_reasoning=True, thinks_first=True)
CASES = [
    ("why</think>answer", THINKING, {"content": "answer", "reasoning_content": "why"}, "stop"),
    ("only reasons", THINKING, {"content": "", "reasoning_content": "only reasons"}, "stop"),
    ("all 🙊 text", OutputPlan(), {"content": "all 🙊 text"}, "stop"),
    (
        "why</think>so" + CALL,
        replace(THINKING, tools=TOOLS),
        {"content": "so", "reasoning_content": "why", "calls": [("f", {"s": "ü🙊"})]},
        "tool_calls",
    ),
    (
        "why" + CALL + CALL,
        replace(THINKING, tools=TOOLS),
        {"content": None, "reasoning_content": "why", "calls": [("f", {"s": "ü🙊"})] * 2},
        "tool_calls",
    ),
    (
        CALL + "\n" + CALL + "more",
        OutputPlan(tools=TOOLS, one_call=True),
        {"content": None, "calls": [("f", {"s": "ü🙊"})]},
        "tool_calls",
    ),
    ("one STOP two", OutputPlan(stops=["STOP"]), {"content": "one "}, "stop"),
    ("one STOP two", OutputPlan(stops=["STOP"], include_stop=True), {"content": "one STOP"}, "stop"),
    (
        "why</think>a",
        OutputPlan(splits_reasoning=True, thinks_first=True, shows_reasoning=False),
        {"content": "a"},
        "stop",
    ),
    ("why</think>a", OutputPlan(), {"content": "why</think>a"}, "stop"),
]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_tokens_become_a_message_whatever_the_steps(tokenizer, case, size):
    text, plan, expected, reason = case
    answer = message(tokenizer, text, plan, size=size)
    found = answer.message()
    calls = [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in found.pop("tool_calls", [])]
    assert found | ({"calls": calls} if calls else {}) == {"role": "assistant"} | expected
    assert answer.finish_reason == reason


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_a_stream_says_what_the_whole_answer_says(tokenizer, case):
    text, plan, expected, reason = case
    form = ChatForm("id", 1, "toy", tokenizer)
    said = {"content": "", "reasoning_content": ""}
    calls, ends = [], []
    for delta in deltas(tokenizer, text, plan, size=2):
        for chunk in form.chunks(0, delta):
            choice = chunk["choices"][0]
            ends += [choice["finish_reason"]] if choice["finish_reason"] else []
            for key in said:
                said[key] += choice["delta"].get(key, "")
            for part in choice["delta"].get("tool_calls", []):
                if "id" in part:
                    calls.append([part["function"]["name"], ""])
                calls[part["index"]][1] += part["function"]["arguments"]
    assert ends == [reason]
    assert said == {"content": expected["content"] or "", "reasoning_content": expected.get("reasoning_content", "")}
    assert [(name, json.loads(arguments)) for name, arguments in calls] == expected.get("calls", [])


def test_the_stop_token_of_the_request_is_told_and_the_models_own_is_not(tokenizer):
    plan = OutputPlan(stop_token_ids=frozenset({7}))
    assert message(tokenizer, "a", plan, stop_token=7).stop_reason == 7
    assert message(tokenizer, "a", plan, stop_token=8).stop_reason is None
    assert message(tokenizer, "a END b", OutputPlan(stops=["END"])).stop_reason == "END"


def test_length_stays_length_even_in_a_call(tokenizer):
    answer = message(tokenizer, CALL[:-20], OutputPlan(tools=TOOLS), reason="length")
    assert answer.finish_reason == "length"
    assert answer.message()["tool_calls"][0]["function"]["name"] == "f"


def test_stop_strings_wait_for_min_tokens(tokenizer):
    text = "x" * 3 + "END" + "y" * 9 + "END" + "z"
    assert message(tokenizer, text, OutputPlan(stops=["END"], min_tokens=6)).message()["content"] == "xxxENDyyyyyyyyy"


def test_reasoning_tokens_are_counted(tokenizer):
    output = ChoiceOutput(tokenizer, THINKING)
    output.push(tokenizer.encode("abc</think>de"))
    assert (output.num_tokens, output.reasoning_tokens) == (6, 4)


def test_logprobs_and_ids_come_with_their_tokens(tokenizer):
    form = ChatForm("id", 1, "toy", tokenizer, logprobs=True, token_ids=True, prompt_token_ids=[1, 2])
    assert form.first_chunks(1)[0]["prompt_token_ids"] == [1, 2]
    top = [TopLogprob(token_id=98, logprob=-0.5), TopLogprob(token_id=97, logprob=float("-inf"))]
    delta = Delta(token_ids=[0xE6], logprobs=[TokenLogprob(token_id=0xE6, logprob=-2, top=top)])
    (chunk,) = form.chunks(0, delta)
    choice = chunk["choices"][0]
    assert choice["delta"] == {}
    assert choice["token_ids"] == [0xE6]
    (entry,) = choice["logprobs"]["content"]
    assert (entry["bytes"], entry["logprob"], entry["token"]) == ([0xE6], -2.0, "\ufffd")
    assert [one["logprob"] for one in entry["top_logprobs"]] == [-0.5, -9999.0]


def test_an_echoed_completion_scores_the_prompt_too(tokenizer):
    prompt, output = tokenizer.encode("日a"), tokenizer.encode("b")
    choice = CompletionChoice(0, tokenizer, prompt, "日a", num_top=1, echo=True, token_ids=True)
    scores = [TokenLogprob(token_id=i, logprob=-1) for i in (*prompt[1:], *output)]
    answer = CompletionAnswer()
    answer.add(choice.fragment(Delta(token_ids=output, logprobs=scores[-1:]), scores[:-1]))
    assert choice.fragment(Delta()) is None
    whole = answer.choice()
    assert whole["prompt_token_ids"] == prompt
    assert whole["token_ids"] == output
    assert whole["logprobs"]["token_logprobs"] == [None, -1.0, -1.0, -1.0, -1.0][: len(prompt) + 1]
    assert whole["logprobs"]["text_offset"] == [0, 0, 0, 1, 2]
    assert whole["logprobs"]["tokens"][-2:] == ["a", "b"]
