"""The body of POST /v1/chat/completions."""

from typing import Annotated, Literal

from pydantic import Field

from glm5_gateway.requests.fields import Body, Bool, Count, GenerateBody, Json, Str, ToolChoiceMode, TopLogprobs
from glm5_gateway.text.thinking import Effort

MAX_MESSAGES = 4096


class FunctionCall(Body):
    """The function of an earlier tool call."""

    name: Str
    arguments: Str | Json | None = None
    """JSON text, as the model gave it; a JSON object is taken too."""


class ToolCall(Body):
    """An earlier tool call of the assistant."""

    id: Str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Body):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Str | list[Json] | None = None
    """Text, or parts of type text."""
    name: Str | None = None
    reasoning_content: Str | None = None
    reasoning: Str | None = None
    """Another name of `reasoning_content`."""
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Str | None = None


class Function(Body):
    """A function that the model may call."""

    name: Annotated[str, Field(strict=True, pattern=r"^[^\s<>]{1,256}$")]
    description: Str | None = None
    parameters: Json | None = None
    """JSON schema of the arguments."""


class Tool(Body):
    """A tool; functions only."""

    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    """The name of a function."""

    name: Str


class NamedToolChoice(Body):
    """A tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class Thinking(Body):
    """Z.AI's switch for reasoning."""

    type: Literal["enabled", "disabled"] | None = None
    clear_thinking: Bool | None = None
    """false keeps the reasoning of earlier turns in the prompt."""


class ConversationBody(Body):
    """What makes a prompt of a conversation."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[Tool], Field(max_length=1024)] | None = None
    tool_choice: ToolChoiceMode | NamedToolChoice | None = None
    reasoning_effort: Effort | None = None
    thinking: Thinking | None = None
    enable_thinking: Bool | None = None
    clear_thinking: Bool | None = None
    chat_template_kwargs: Json | None = None
    """Further variables of the chat template; they win over the fields above."""
    add_generation_prompt: Bool | None = None
    add_special_tokens: Bool | None = None


class ChatBody(ConversationBody, GenerateBody):
    """A request for the next message of a conversation."""

    logprobs: Bool | None = None
    top_logprobs: TopLogprobs | None = None
    max_completion_tokens: Count | None = None
    """Wins over `max_tokens`."""
    parallel_tool_calls: Bool | None = None
    """false ends the answer after the first call."""
    include_reasoning: Bool | None = None
    """false leaves `reasoning_content` out of the answer."""
    separate_reasoning: Bool | None = None
    """false leaves the reasoning in `content`, tags included."""
