"""POST /v1/chat/completions: from body to call."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glm5_gateway.conversation import encoded, render
from glm5_gateway.errors import invalid, unsupported
from glm5_gateway.ids import new_id
from glm5_gateway.output.chat import ChatAnswer, ChatForm
from glm5_gateway.output.choice import ChoiceOutput, OutputPlan
from glm5_gateway.output.usage import Usage
from glm5_gateway.requests.chat import ChatBody
from glm5_gateway.requests.fields import GenerateBody
from glm5_gateway.requests.parse import validated
from glm5_gateway.requests.sampling import resolved_max_tokens, sampling_params
from glm5_gateway.run import Run
from glm5_gateway.text.thinking import ends_after_thinking, ends_in_thinking

if TYPE_CHECKING:
    from glm5_gateway.api import Api


class ChatCall:
    """A chat completion that is ready to run."""

    def __init__(self, body: ChatBody, form: ChatForm, run: Run) -> None:
        self.stream = bool(body.stream)
        self._form, self._run, self._num = form, run, body.n or 1
        self._options = body.stream_options

    async def objects(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks of a stream."""
        opened = False
        continuous = bool(self._options and self._options.continuous_usage_stats)
        async with aclosing(self._run.deltas()) as deltas:
            async for index, delta in deltas:
                chunks = [] if opened else self._form.first_chunks(self._num)
                opened = True
                for chunk in chunks + self._form.chunks(index, delta):
                    yield chunk | {"usage": self._run.usage.as_json()} if continuous else chunk
        if self._options and self._options.include_usage:
            yield self._form.usage_chunk(self._run.usage.as_json())

    async def answer(self) -> dict[str, Any]:
        """Return the whole answer."""
        choices = [ChatAnswer() for _ in range(self._num)]
        async with aclosing(self._run.deltas()) as deltas:
            async for index, delta in deltas:
                choices[index].add(delta)
        return self._form.answer(choices, self._run.usage.as_json())


async def prepare_chat(api: "Api", raw: dict[str, Any], key: str) -> ChatCall:
    """Return the call of a body.

    Raises:
        InvalidRequest: names the field that is wrong.
    """
    body = validated(ChatBody, raw)
    name = api.check(body, body.model)
    _check(body)
    served = api.served
    text = render(served, body, raw)
    prompt = await encoded(served, text, special=bool(body.add_special_tokens), param="messages")
    wanted = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    if wanted == 0:
        raise invalid("max_tokens", "`max_tokens` must be at least 1")
    params = sampling_params(
        body,
        served.defaults,
        max_tokens=resolved_max_tokens(wanted, len(prompt), api.max_model_len, "messages"),
        vocab_size=served.vocab_size,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    number = body.n or 1
    form = ChatForm(
        id=new_id("chatcmpl"),
        created=int(time.time()),
        model=name,
        tokenizer=served.tokenizer,
        logprobs=bool(body.logprobs),
        token_ids=bool(body.return_token_ids),
        prompt_token_ids=prompt,
    )
    outputs = [ChoiceOutput(served.tokenizer, _plan(body, text)) for _ in range(number)]
    generation = api.generation(form.id, prompt, [params] * number, key)
    run = Run([generation], outputs, api.admission, key, Usage(prompt_tokens=len(prompt)))
    return ChatCall(body, form, run)


def check_common(body: GenerateBody) -> None:
    """Check fields of chat and completion against each other."""
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "`stream_options` needs `stream`", "", "set `stream` to true")


def common_plan(body: GenerateBody) -> OutputPlan:
    """Return the plan of what chat and completion share."""
    return OutputPlan(
        stops=body.stops,
        include_stop=bool(body.include_stop_str_in_output),
        stop_token_ids=frozenset(body.stop_token_ids or ()),
        min_tokens=body.min_tokens or 0,
        skip_special=body.skip_special_tokens is not False,
    )


def _check(body: ChatBody) -> None:
    """Check fields against each other."""
    check_common(body)
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("top_logprobs", "`top_logprobs` needs `logprobs`", "", "set `logprobs` to true")
    if body.tool_choice not in (None, "none", "auto"):
        why = "the model cannot be forced to call a tool"
        raise unsupported("tool_choice", why, "use `auto` or `none`")


def _plan(body: ChatBody, prompt: str) -> OutputPlan:
    """Return what the output becomes."""
    tools = None
    if body.tools and body.tool_choice != "none":
        tools = {tool.function.name: tool.function.parameters or {} for tool in body.tools}
    inside = ends_in_thinking(prompt)
    return replace(
        common_plan(body),
        splits_reasoning=body.separate_reasoning is not False,
        thinks_first=inside,
        may_think=not inside and not ends_after_thinking(prompt),
        shows_reasoning=body.include_reasoning is not False,
        tools=tools,
        one_call=body.parallel_tool_calls is False,
    )
