"""OpenAI's chat objects: chunks of a stream and the whole answer, both from the same deltas."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from glm5_gateway.output.delta import Delta, Piece, Reasoning, Text
from glm5_gateway.output.scores import chat_scores
from glm5_gateway.text.tokenizer import Tokenizer
from glm5_gateway.text.tool_calls import CallArguments, CallStart


@dataclass(frozen=True, slots=True)
class ChatForm:
    """What all objects of one answer share."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str
    tokenizer: Tokenizer
    logprobs: bool = False
    token_ids: bool = False
    """Whether token ids are returned."""
    prompt_token_ids: Sequence[int] = ()

    def _head(self, kind: str) -> dict[str, Any]:
        """Return the fields that every object begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def first_chunks(self, num_choices: int) -> list[dict[str, Any]]:
        """Return the chunks that open each choice."""
        chunks = [self._chunk(index, {"role": "assistant", "content": ""}) for index in range(num_choices)]
        if self.token_ids:
            chunks[0]["prompt_token_ids"] = list(self.prompt_token_ids)
        return chunks

    def chunks(self, index: int, delta: Delta) -> list[dict[str, Any]]:
        """Return the chunks of one delta; scores and token ids are in the first, the end in the last."""
        bodies = [_fragment(piece) for piece in _joined(delta.pieces)]
        extras = bool((self.logprobs and delta.logprobs) or (self.token_ids and delta.token_ids))
        if not bodies and (extras or delta.finish_reason):
            bodies = [{}]
        chunks = [self._chunk(index, body) for body in bodies]
        if chunks and extras:
            self._add_scores(chunks[0]["choices"][0], delta.logprobs, delta.token_ids)
        if delta.finish_reason:
            chunks[-1]["choices"][0]["finish_reason"] = delta.finish_reason
            chunks[-1]["choices"][0]["stop_reason"] = delta.stop_reason
        return chunks

    def usage_chunk(self, usage: dict[str, Any]) -> dict[str, Any]:
        """Return the chunk that tells the usage; it has no choices."""
        return self._head("chat.completion.chunk") | {"choices": [], "usage": usage}

    def answer(self, choices: Sequence["ChatAnswer"], usage: dict[str, Any]) -> dict[str, Any]:
        """Return the whole answer."""
        body = self._head("chat.completion")
        body["choices"] = [self._choice(index, choice) for index, choice in enumerate(choices)]
        body["usage"] = usage
        if self.token_ids:
            body["prompt_token_ids"] = list(self.prompt_token_ids)
        return body

    def _chunk(self, index: int, delta: dict[str, Any]) -> dict[str, Any]:
        """Return a chunk of one choice."""
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._head("chat.completion.chunk") | {"choices": [choice]}

    def _choice(self, index: int, choice: "ChatAnswer") -> dict[str, Any]:
        """Return one choice of the whole answer."""
        body: dict[str, Any] = {"index": index, "message": choice.message(), "logprobs": None}
        body |= {"finish_reason": choice.finish_reason, "stop_reason": choice.stop_reason}
        self._add_scores(body, choice.logprobs, choice.token_ids)
        return body

    def _add_scores(self, choice: dict[str, Any], logprobs: Sequence[Any], token_ids: Sequence[int]) -> None:
        """Add logprobs and token ids where the request wants them."""
        if self.logprobs:
            choice["logprobs"] = chat_scores(self.tokenizer, logprobs)
        if self.token_ids:
            choice["token_ids"] = list(token_ids)


@dataclass(slots=True)
class ChatAnswer:
    """One choice, gathered from its deltas."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """Id, name and parts of the arguments."""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None

    def add(self, delta: Delta) -> None:
        """Take over one delta."""
        for piece in delta.pieces:
            self._add_piece(piece)
        self.token_ids += delta.token_ids
        self.logprobs += delta.logprobs
        if delta.finish_reason:
            self.finish_reason, self.stop_reason = delta.finish_reason, delta.stop_reason

    def _add_piece(self, piece: Piece) -> None:
        """Take over one piece."""
        if isinstance(piece, Text):
            self.content.append(piece.text)
        elif isinstance(piece, Reasoning):
            self.reasoning.append(piece.text)
        elif isinstance(piece, CallStart):
            self.calls.append((_call_id(), piece.name, []))
        else:
            self.calls[piece.index][2].append(piece.text)

    def message(self) -> dict[str, Any]:
        """Return the message; content is null where there are calls and no text."""
        content = "".join(self.content)
        message: dict[str, Any] = {"role": "assistant", "content": content or (None if self.calls else "")}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = [
                {"id": call, "type": "function", "function": {"name": name, "arguments": "".join(parts)}}
                for call, name, parts in self.calls
            ]
        return message


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Return `pieces` with neighbouring runs of text or of reasoning made one."""
    joined: list[Piece] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if isinstance(piece, Text) and isinstance(last, Text):
            joined[-1] = Text(last.text + piece.text)
        elif isinstance(piece, Reasoning) and isinstance(last, Reasoning):
            joined[-1] = Reasoning(last.text + piece.text)
        elif isinstance(piece, CallArguments) and isinstance(last, CallArguments) and last.index == piece.index:
            joined[-1] = CallArguments(last.index, last.text + piece.text)
        else:
            joined.append(piece)
    return joined


def _fragment(piece: Piece) -> dict[str, Any]:
    """Return the `delta` of a chunk."""
    if isinstance(piece, Text):
        return {"content": piece.text}
    if isinstance(piece, Reasoning):
        return {"reasoning_content": piece.text}
    if isinstance(piece, CallStart):
        function = {"name": piece.name, "arguments": ""}
        return {"tool_calls": [{"index": piece.index, "id": _call_id(), "type": "function", "function": function}]}
    return {"tool_calls": [{"index": piece.index, "function": {"arguments": piece.text}}]}


def _call_id() -> str:
    """Return a new id of a tool call."""
    return f"call_{secrets.token_hex(12)}"
