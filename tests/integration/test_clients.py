"""Clients that everybody has, unmodified, on the demo model: chat, streams, usage, reasoning, tools, scores, errors."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from support_stack import Stack

QUESTION = [{"role": "user", "content": "What is a shard?"}]
ANSWER = "A shard is one expert server process. It holds some of the routed experts of every MoE layer."
REASONING = "The user asks what a shard is."
PARIS = [{"role": "user", "content": "What is the weather in Paris?"}]
TWO = [{"role": "user", "content": "What is the weather in Rome and what time is it?"}]


def function(name: str, description: str, **properties: str) -> dict[str, Any]:
    """Return a tool in the words that the demo model was trained on."""
    fields = {key: {"type": kind} for key, kind in properties.items()}
    parameters = {"type": "object", "properties": fields, "required": list(fields)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = function("get_weather", "Get the weather in a city.", city="string")
TIME = function("get_time", "Get the current time.")


@pytest.fixture(scope="module")
def model(demo_stack: Stack) -> str:
    return demo_stack.model.name


@pytest.fixture(scope="module")
def client(demo_stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{demo_stack.url}/v1", api_key="none", timeout=300)


def joined(chunks: list[Any]) -> tuple[str, str, list[tuple[str, str]], str | None]:
    """Return (content, reasoning, calls, finish reason) of a stream."""
    content, reasoning, finish = "", "", None
    calls: list[list[str]] = []
    for choice in (chunk.choices[0] for chunk in chunks if chunk.choices):
        content += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        finish = choice.finish_reason or finish
        for part in choice.delta.tool_calls or ():
            if part.id:
                calls.append([part.function.name, ""])
            calls[part.index][1] += part.function.arguments or ""
    return content, reasoning, [(name, arguments) for name, arguments in calls], finish


def test_openai_gets_an_answer_with_reasoning_and_usage(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    message = answer.choices[0].message
    assert (message.content, message.reasoning_content) == (ANSWER, REASONING)
    assert answer.choices[0].finish_reason == "stop"
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens >= 0


def test_openai_streams_the_same(client: openai.OpenAI, model: str) -> None:
    whole = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    options = {"include_usage": True}
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, stream=True, stream_options=options
    )
    chunks = list(stream)
    assert joined(chunks) == (ANSWER, REASONING, [], "stop")
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_openai_switches_thinking_off(client: openai.OpenAI, model: str) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, extra_body=extra)
    assert answer.choices[0].message.content == ANSWER
    assert not hasattr(answer.choices[0].message, "reasoning_content")
    none = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, reasoning_effort="none")
    assert none.choices[0].message.content == ANSWER


def test_openai_calls_a_tool_and_goes_on_with_its_result(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=PARIS, tools=[WEATHER], temperature=0)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Paris"})
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny, 21 °C"}
    history = [*PARIS, message.model_dump(exclude_none=True), result]
    after = client.chat.completions.create(model=model, messages=history, tools=[WEATHER], temperature=0)
    assert after.choices[0].message.content == "The weather in Paris: sunny, 21 °C."


def test_openai_streams_two_calls_at_once(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=TWO, tools=[WEATHER, TIME], temperature=0, stream=True
    )
    content, _, calls, finish = joined(list(stream))
    assert (content, finish) == ("", "tool_calls")
    assert [(name, json.loads(arguments)) for name, arguments in calls] == [
        ("get_weather", {"city": "Rome"}),
        ("get_time", {}),
    ]


def test_openai_ends_after_one_call_where_it_may_not_call_twice(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=TWO, tools=[WEATHER, TIME], temperature=0, parallel_tool_calls=False
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"


def test_openai_gets_logprobs_of_each_token(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, logprobs=True, top_logprobs=3
    )
    entries = answer.choices[0].logprobs.content
    assert len(entries) == answer.usage.completion_tokens
    assert all(len(entry.top_logprobs) == 3 and entry.logprob <= 0 for entry in entries)
    assert all(entry.top_logprobs[0].token == entry.token for entry in entries), "greedy takes the most probable"
    text = b"".join(bytes(entry.bytes) for entry in entries).decode()
    assert text == f"{REASONING}</think>{ANSWER}"


def test_openai_stops_at_a_stop_string_in_every_choice(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, n=3, stop=[" It holds"])
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {"A shard is one expert server process."}
    assert {(choice.finish_reason, choice.stop_reason) for choice in answer.choices} == {("stop", " It holds")}


def test_openai_completes_prompts_of_every_kind(client: openai.OpenAI, model: str) -> None:
    extra = {"return_token_ids": True}
    fields: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": 4, "extra_body": extra}
    text = client.completions.create(prompt="What is a", **fields).choices[0]
    again = client.completions.create(prompt=text.prompt_token_ids, **fields).choices[0]
    both = client.completions.create(prompt=[text.prompt_token_ids, text.prompt_token_ids[:2]], **fields).choices
    assert text.text == again.text == both[0].text
    assert text.token_ids == again.token_ids == both[0].token_ids
    assert [choice.index for choice in both] == [0, 1]


def test_openai_scores_a_prompt_without_generating(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="What is a shard?", max_tokens=0, echo=True, logprobs=1)
    choice = answer.choices[0]
    assert choice.text == "".join(choice.logprobs.tokens) == "What is a shard?"
    assert choice.logprobs.token_logprobs[0] is None
    assert all(score <= 0 for score in choice.logprobs.token_logprobs[1:])


def test_openai_raises_the_errors_that_it_knows(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="nobody", messages=QUESTION)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=QUESTION, temperature=-1)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        client.chat.completions.create(model=model, messages=QUESTION, max_tokens=10**6)


def test_openai_lists_models(client: openai.OpenAI, model: str) -> None:
    assert model in [one.id for one in client.models.list()]
    assert client.models.list().data[0].max_model_len > 0


NODE = """
import OpenAI from "openai";
const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url + "/v1", apiKey: "none" });
const messages = [{ role: "user", content: "What is a shard?" }];
const whole = await client.chat.completions.create({ model, messages, temperature: 0 });
let content = "", reasoning = "", usage = null;
const options = { model, messages, temperature: 0, stream: true, stream_options: { include_usage: true } };
for await (const chunk of await client.chat.completions.create(options)) {
  content += chunk.choices[0]?.delta?.content ?? "";
  reasoning += chunk.choices[0]?.delta?.reasoning_content ?? "";
  usage = chunk.usage ?? usage;
}
let error = null;
try { await client.chat.completions.create({ model, messages, n: 99 }); }
catch (caught) { error = { status: caught.status, param: caught.param }; }
console.log(JSON.stringify({ whole: whole.choices[0].message, content, reasoning, usage, error }));
"""


@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm here")
def test_openai_for_node_gets_and_streams_the_same(demo_stack: Stack, model: str, tmp_path: Path) -> None:
    (tmp_path / "ask.mjs").write_text(NODE)
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "openai@6"]
    subprocess.run(install, cwd=tmp_path, check=True, timeout=240, capture_output=True)
    command = ["node", "ask.mjs", demo_stack.url, model]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["content"], said["reasoning"]) == (ANSWER, REASONING)
    assert said["whole"]["content"] == ANSWER
    assert said["usage"]["completion_tokens"] > 0
    assert said["error"] == {"status": 400, "param": "n"}


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return "sunny, 21 °C"


def test_langchain_answers_streams_and_calls_tools(demo_stack: Stack, model: str) -> None:
    chat = ChatOpenAI(base_url=f"{demo_stack.url}/v1", api_key="none", model=model, temperature=0, timeout=300)
    assert chat.invoke("What is a shard?").content == ANSWER
    assert "".join(str(chunk.content) for chunk in chat.stream("What is a shard?")) == ANSWER
    bound = chat.bind_tools([get_weather])
    question = HumanMessage("What is the weather in Paris?")
    asked = bound.invoke([question])
    (call,) = asked.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"})
    result = ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"])
    assert "sunny" in bound.invoke([question, asked, result]).content


def test_curl_sees_events_that_end_with_done(demo_stack: Stack, model: str) -> None:
    body = json.dumps({"model": model, "messages": QUESTION, "temperature": 0, "stream": True})
    command = ["curl", "-sN", "--noproxy", "*", "--max-time", "240", "-H", "Content-Type: application/json"]
    url = f"{demo_stack.url}/v1/chat/completions"
    done = subprocess.run([*command, "-d", body, url], capture_output=True, text=True, timeout=300, check=True)
    events = [line for line in done.stdout.split("\n\n") if line and not line.startswith(":")]
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    last = json.loads(events[-2].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "stop"


class ByReflection:
    """A gRPC client that knows nothing but the server's address."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self._service = DescriptorPool(self._database).FindServiceByName("glm5.v1.InferenceService")

    @property
    def services(self) -> list[str]:
        return list(self._database.get_services())

    def call(self, name: str, request: dict[str, Any]) -> Any:
        """Return the response, or the iterator of responses, as dicts."""
        method = self._service.methods_by_name[name]
        kind, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        open_call = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
        run = open_call(
            f"/{self._service.full_name}/{name}",
            request_serializer=kind.SerializeToString,
            response_deserializer=answer.FromString,
        )
        result = run(ParseDict(request, kind()), timeout=240)
        return [MessageToDict(one) for one in result] if method.server_streaming else MessageToDict(result)


def test_grpc_by_reflection_says_the_same(demo_stack: Stack, model: str) -> None:
    body = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 200}
    with grpc.insecure_channel(demo_stack.grpc_address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        client = ByReflection(channel)
        assert {"glm5.v1.InferenceService", "grpc.health.v1.Health"} <= set(client.services)
        answer = client.call("Chat", {"body": body})["body"]
        assert answer["choices"][0]["message"]["content"] == ANSWER
        chunks = [one["chunk"] for one in client.call("ChatStream", {"body": body})]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        assert "".join(delta.get("content") or "" for delta in deltas) == ANSWER
        completion = client.call("Complete", {"body": {"prompt": "What is a", "temperature": 0, "max_tokens": 3}})
        assert completion["body"]["object"] == "text_completion"
        assert client.call("CompleteStream", {"body": {"prompt": "What", "max_tokens": 2}})
        ids = client.call("Tokenize", {"body": {"prompt": "What is a shard?"}})["tokenIds"]
        assert client.call("Detokenize", {"tokenIds": ids}) == {"text": "What is a shard?"}
        assert model in [one["id"] for one in client.call("ListModels", {})["models"]]
        with pytest.raises(grpc.RpcError) as caught:
            client.call("Chat", {"body": {"messages": []}})
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "`messages`" in caught.value.details()
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
