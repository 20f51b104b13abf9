"""Logprobs in OpenAI's two shapes."""

import codecs
import math
from collections.abc import Sequence
from typing import Any

from glm5.v1.sampling_pb2 import TokenLogprob
from glm5_gateway.text.tokenizer import Tokenizer

_FLOOR = -9999.0
"""Stands for minus infinity, which JSON cannot say; vLLM's choice."""


def chat_scores(tokenizer: Tokenizer, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return `logprobs` of a chat choice."""
    return {"content": [_chat_entry(tokenizer, one) for one in logprobs]}


def _chat_entry(tokenizer: Tokenizer, one: TokenLogprob) -> dict[str, Any]:
    """Return one token with its alternatives."""
    top = [_named(tokenizer, other.token_id, other.logprob) for other in one.top]
    return _named(tokenizer, one.token_id, one.logprob) | {"top_logprobs": top}


def _named(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    """Return token, logprob and bytes."""
    raw = tokenizer.token_bytes(token_id)
    return {"token": raw.decode("utf-8", "replace"), "logprob": finite(logprob), "bytes": list(raw)}


def finite(logprob: float) -> float:
    """Return a logprob that JSON can say."""
    return logprob if math.isfinite(logprob) else _FLOOR


class CompletionScores:
    """Builds `logprobs` of a completion choice piece by piece, with offsets into its text.

    Args:
        tokenizer: names the tokens.
        num_top: alternatives of each token.
        hidden: ids whose text is not shown, so that they take no room.
    """

    def __init__(self, tokenizer: Tokenizer, num_top: int, hidden: frozenset[int]) -> None:
        self._tokenizer, self._num_top, self._hidden = tokenizer, num_top, hidden
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def push(self, token_ids: Sequence[int], logprobs: Sequence[TokenLogprob | None]) -> dict[str, Any]:
        """Return the object for `token_ids`; None instead of a logprob is the prompt's first token."""
        entry: dict[str, Any] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for token_id, one in zip(token_ids, logprobs, strict=True):
            entry["tokens"].append(self._name(token_id))
            entry["text_offset"].append(self._offset)
            entry["token_logprobs"].append(None if one is None else finite(one.logprob))
            entry["top_logprobs"].append(None if one is None else self._top(one))
            self._advance(token_id)
        return entry

    def _name(self, token_id: int) -> str:
        """Return the token as text."""
        return self._tokenizer.token_bytes(token_id).decode("utf-8", "replace")

    def _top(self, one: TokenLogprob) -> dict[str, float]:
        """Return the alternatives by text; the token itself is always among them."""
        top = {self._name(other.token_id): finite(other.logprob) for other in reversed(one.top[: self._num_top])}
        return dict(reversed(top.items())) | {self._name(one.token_id): finite(one.logprob)}

    def _advance(self, token_id: int) -> None:
        """Move the offset past a token; an unfinished character has no width yet."""
        if token_id not in self._hidden:
            self._offset += len(self._decoder.decode(self._tokenizer.token_bytes(token_id)))
