"""The bodies of POST /tokenize and /detokenize."""

from typing import Annotated

from pydantic import Field

from glm5_gateway.requests.chat import ConversationBody, Message
from glm5_gateway.requests.fields import Body, Bool, Str, TokenId


class TokenizeBody(ConversationBody):
    """A text, or a conversation: exactly one of `prompt` and `messages`."""

    model: Str | None = None
    prompt: Str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None  # type: ignore[assignment]
    return_token_strs: Bool | None = None


class DetokenizeBody(Body):
    """Token ids."""

    model: Str | None = None
    tokens: list[TokenId]
