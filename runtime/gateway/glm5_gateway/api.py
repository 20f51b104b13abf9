"""The API itself, whatever carries it: raw bodies in, OpenAI objects out."""

import time
from collections.abc import AsyncGenerator
from typing import Any, Protocol

from glm5.v1.sampling_pb2 import SamplingParams
from glm5_gateway import metrics
from glm5_gateway.chat import ChatCall, prepare_chat
from glm5_gateway.completions import CompletionCall, prepare_completion
from glm5_gateway.conversation import encoded, render
from glm5_gateway.dispatch.admission import Admission
from glm5_gateway.dispatch.generation import Generation, Patience
from glm5_gateway.dispatch.progress import Job
from glm5_gateway.dispatch.workers import Workers
from glm5_gateway.errors import invalid, unknown_model
from glm5_gateway.requests.fields import Body
from glm5_gateway.requests.known import check_unsupported
from glm5_gateway.requests.parse import validated
from glm5_gateway.requests.sampling import checked_ids
from glm5_gateway.requests.tokens import DetokenizeBody, TokenizeBody
from glm5_gateway.served import ServedModel


class Call(Protocol):
    """A request that is ready to run; exactly one of `objects` and `answer` is used, once."""

    stream: bool

    def objects(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks of a stream."""

    async def answer(self) -> dict[str, Any]:
        """Return the whole answer."""


class Api:
    """What clients can ask for.

    Args:
        served: the model.
        workers: the decode workers.
        admission: slots for prompts.
        patience: limits of a stream.
    """

    def __init__(self, served: ServedModel, workers: Workers, admission: Admission, patience: Patience) -> None:
        self.served, self.workers, self.admission, self._patience = served, workers, admission, patience
        self.created = int(time.time())

    @property
    def max_model_len(self) -> int:
        """Return the longest prompt and output together, in tokens."""
        return self.workers.shortest_model_len(self.served.max_model_len)

    async def chat(self, raw: dict[str, Any], key: str) -> ChatCall:
        """Return a chat completion, checked and ready.

        Args:
            raw: the body.
            key: whose turn it takes in queues.

        Raises:
            InvalidRequest: names the field that is wrong.
        """
        return await prepare_chat(self, raw, key)

    async def complete(self, raw: dict[str, Any], key: str) -> CompletionCall:
        """Return a completion, checked and ready.

        Raises:
            InvalidRequest: names the field that is wrong.
        """
        return await prepare_completion(self, raw, key)

    async def tokenize(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return the token ids of a text or a conversation."""
        body = validated(TokenizeBody, raw)
        self.check(body, body.model)
        if (body.prompt is None) == (body.messages is None):
            raise invalid("prompt", "exactly one of `prompt` and `messages` is needed")
        special = body.add_special_tokens
        if body.prompt is None:
            text, param = render(self.served, body, raw), "messages"
        else:
            text, param, special = body.prompt, "prompt", special is not False
        ids = await encoded(self.served, text, special=bool(special), param=param)
        answer: dict[str, Any] = {"count": len(ids), "max_model_len": self.max_model_len, "tokens": ids}
        tokenizer = self.served.tokenizer
        answer["token_strs"] = (
            [tokenizer.text([i], skip_special=False) for i in ids] if body.return_token_strs else None
        )
        return answer

    def detokenize(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Return the text of token ids, special tokens included."""
        body = validated(DetokenizeBody, raw)
        self.check(body, body.model)
        ids = checked_ids(body.tokens, self.served.vocab_size, "tokens")
        return {"prompt": self.served.tokenizer.text(ids, skip_special=False)}

    def models(self) -> dict[str, Any]:
        """Return what is served."""
        length = self.max_model_len
        common = {"object": "model", "created": self.created, "owned_by": "glm5-serve", "max_model_len": length}
        names = self.served.names
        return {"object": "list", "data": [{"id": name, "root": names[0], "parent": None} | common for name in names]}

    def check(self, body: Body, model: str | None) -> str:
        """Check what every body has; return the model's name for the answer.

        Raises:
            InvalidRequest: a field is known, but unsupported.
            NotFound: the model is not served.
        """
        if model is not None and model not in self.served.names:
            raise unknown_model(model, self.served.names)
        metrics.UNKNOWN_FIELDS.inc(check_unsupported(body.model_extra or {}))
        return model or self.served.names[0]

    def generation(self, job_id: str, prompt: list[int], sampling: list[SamplingParams], key: str) -> Generation:
        """Return a generation that has not begun."""
        return Generation(Job(job_id, prompt, sampling, key), self.workers, self._patience)
