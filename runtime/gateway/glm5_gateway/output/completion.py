"""OpenAI's completion objects: chunks of a stream and the whole answer, both from the same deltas."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from glm5.v1.sampling_pb2 import TokenLogprob
from glm5_gateway.output.delta import Delta
from glm5_gateway.output.scores import CompletionScores
from glm5_gateway.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class CompletionForm:
    """What all objects of one answer share."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str

    def chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        """Return a chunk of one choice."""
        return self._head() | {"choices": [choice]}

    def usage_chunk(self, usage: dict[str, Any]) -> dict[str, Any]:
        """Return the chunk that tells the usage; it has no choices."""
        return self._head() | {"choices": [], "usage": usage}

    def answer(self, choices: Sequence[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        """Return the whole answer."""
        return self._head() | {"choices": list(choices), "usage": usage}

    def _head(self) -> dict[str, Any]:
        """Return the fields that every object begins with."""
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}


@dataclass(slots=True)
class CompletionChoice:
    """One choice: turns its deltas into fragments, and joins fragments to the whole."""

    index: int
    tokenizer: Tokenizer
    prompt_token_ids: Sequence[int]
    prompt_text: str
    num_top: int | None = None
    """Alternatives of each token; None means no logprobs."""
    echo: bool = False
    token_ids: bool = False
    skip_special: bool = True
    scores: CompletionScores | None = None
    opened: bool = False

    def __post_init__(self) -> None:
        """Set up the scores."""
        if self.num_top is not None:
            hidden = self.tokenizer.special_ids if self.skip_special else frozenset()
            self.scores = CompletionScores(self.tokenizer, self.num_top, hidden)

    def fragment(self, delta: Delta, prompt_logprobs: Sequence[Any] = ()) -> dict[str, Any] | None:
        """Return what `delta` adds, None if nothing; the first one also has the prompt where it is echoed."""
        ids, text = list(delta.token_ids), delta.text
        logprobs: list[TokenLogprob | None] = list(delta.logprobs)
        first, self.opened = not self.opened, True
        if first and self.echo:
            text = self.prompt_text + text
            if self.scores is not None:
                ids, logprobs = [*self.prompt_token_ids, *ids], [None, *prompt_logprobs, *logprobs]
        silent = not text and not delta.finish_reason and not (self.token_ids and delta.token_ids)
        if silent and not (self.scores is not None and ids) and not (first and self.token_ids):
            return None
        scored = self.scores.push(ids, logprobs) if self.scores is not None else None
        body: dict[str, Any] = {"index": self.index, "text": text, "logprobs": scored}
        body |= {"finish_reason": delta.finish_reason, "stop_reason": delta.stop_reason}
        if self.token_ids:
            body["token_ids"] = list(delta.token_ids)
            if first:
                body["prompt_token_ids"] = list(self.prompt_token_ids)
        return body


@dataclass(slots=True)
class CompletionAnswer:
    """One choice, gathered from its fragments."""

    body: dict[str, Any] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def add(self, fragment: dict[str, Any]) -> None:
        """Take over one fragment."""
        self.texts.append(fragment["text"])
        if not self.body:
            self.body = dict(fragment)
            return
        if fragment["logprobs"] is not None:
            for key, values in fragment["logprobs"].items():
                self.body["logprobs"][key] += values
        if "token_ids" in fragment:
            self.body["token_ids"] += fragment["token_ids"]
        self.body["finish_reason"], self.body["stop_reason"] = fragment["finish_reason"], fragment["stop_reason"]

    def choice(self) -> dict[str, Any]:
        """Return the whole choice."""
        return self.body | {"text": "".join(self.texts)}
