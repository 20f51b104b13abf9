"""Conversations to prompts."""

import asyncio
from typing import Any

from glm5_gateway.errors import invalid
from glm5_gateway.requests.chat import ConversationBody
from glm5_gateway.served import ServedModel
from glm5_gateway.text.messages import prepared
from glm5_gateway.text.thinking import template_variables

_INLINE_CHARACTERS = 16_384
"""Longer texts are tokenised in a thread, so that other streams go on meanwhile."""


def render(served: ServedModel, body: ConversationBody, raw: dict[str, Any]) -> str:
    """Return the prompt of a conversation.

    Args:
        served: has the template.
        body: validated.
        raw: the same before validation: tools are shown to the model exactly as the client wrote them.

    Raises:
        InvalidRequest: a message cannot be shown to the model.
    """
    for index, message in enumerate(body.messages):
        if message.content is None and not (message.role == "assistant" or message.tool_calls):
            param = f"messages[{index}].content"
            raise invalid(param, f"`{param}` is missing", "only the assistant's may be null")
    thinking = body.thinking
    enable, clear = body.enable_thinking, body.clear_thinking
    if thinking is not None:
        enable = thinking.type == "enabled" if enable is None and thinking.type else enable
        clear = thinking.clear_thinking if clear is None else clear
    variables = template_variables(
        served.template.source,
        effort=body.reasoning_effort,
        enable_thinking=enable,
        clear_thinking=clear,
        further=body.chat_template_kwargs or {},
    )
    tools = raw.get("tools") if body.tool_choice != "none" else None
    opened = body.add_generation_prompt is not False
    return served.template.render(prepared(raw["messages"]), tools, variables, add_generation_prompt=opened)


async def encoded(served: ServedModel, text: str, *, special: bool, param: str) -> list[int]:
    """Return the token ids of `text`.

    Args:
        served: has the tokenizer.
        text: any length.
        special: whether the tokenizer may add special tokens.
        param: the field that the text came from.
    """
    if len(text) <= _INLINE_CHARACTERS:
        return served.tokenizer.encode(text, add_special_tokens=special, param=param)
    return await asyncio.to_thread(served.tokenizer.encode, text, add_special_tokens=special, param=param)
