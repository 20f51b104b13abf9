"""POST /v1/completions: from body to call."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from glm5.v1.sampling_pb2 import SamplingParams
from glm5_gateway.chat import check_common, common_plan
from glm5_gateway.conversation import encoded
from glm5_gateway.errors import invalid, unsupported
from glm5_gateway.ids import new_id
from glm5_gateway.output.choice import ChoiceOutput
from glm5_gateway.output.completion import CompletionAnswer, CompletionChoice, CompletionForm
from glm5_gateway.output.delta import Delta
from glm5_gateway.output.usage import Usage
from glm5_gateway.requests.completion import CompletionBody, Prompt, prompts_of
from glm5_gateway.requests.parse import validated
from glm5_gateway.requests.sampling import checked_ids, resolved_max_tokens, sampling_params
from glm5_gateway.run import Run

if TYPE_CHECKING:
    from glm5_gateway.api import Api

DEFAULT_MAX_TOKENS = 16
"""OpenAI's."""


class CompletionCall:
    """A completion that is ready to run."""

    def __init__(self, body: CompletionBody, form: CompletionForm, run: Run, choices: list[CompletionChoice]) -> None:
        self.stream = bool(body.stream)
        self._form, self._run, self._choices, self._num = form, run, choices, body.n or 1
        self._options = body.stream_options

    async def objects(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks of a stream."""
        continuous = bool(self._options and self._options.continuous_usage_stats)
        async with aclosing(self._run.deltas()) as deltas:
            async for index, delta in deltas:
                if (fragment := self._fragment(index, delta)) is not None:
                    chunk = self._form.chunk(fragment)
                    yield chunk | {"usage": self._run.usage.as_json()} if continuous else chunk
        if self._options and self._options.include_usage:
            yield self._form.usage_chunk(self._run.usage.as_json())

    async def answer(self) -> dict[str, Any]:
        """Return the whole answer."""
        answers = [CompletionAnswer() for _ in self._choices]
        async with aclosing(self._run.deltas()) as deltas:
            async for index, delta in deltas:
                if (fragment := self._fragment(index, delta)) is not None:
                    answers[index].add(fragment)
        return self._form.answer([answer.choice() for answer in answers], self._run.usage.as_json())

    def _fragment(self, index: int, delta: Delta) -> dict[str, Any] | None:
        """Return what a delta adds to its choice."""
        return self._choices[index].fragment(delta, self._run.scores.get(index // self._num, ()))


async def prepare_completion(api: "Api", raw: dict[str, Any], key: str) -> CompletionCall:
    """Return the call of a body.

    Raises:
        InvalidRequest: names the field that is wrong.
    """
    body = validated(CompletionBody, raw)
    name = api.check(body, body.model)
    _check(body)
    form = CompletionForm(new_id("cmpl"), int(time.time()), name)
    prompts = [await _ids(api, body, prompt, place) for place, prompt in _placed(prompts_of(body.prompt))]
    generations, outputs, choices = [], [], []
    number = body.n or 1
    for place, prompt in enumerate(prompts):
        params = _params(api, body, len(prompt))
        generations.append(api.generation(f"{form.id}-{place}", prompt, [params] * number, key))
        plan = replace(common_plan(body), drops_output=body.max_tokens == 0)
        outputs += [ChoiceOutput(api.served.tokenizer, plan) for _ in range(number)]
        choices += [_choice(api, body, place * number + index, prompt) for index in range(number)]
    usage = Usage(prompt_tokens=sum(len(prompt) for prompt in prompts))
    return CompletionCall(body, form, Run(generations, outputs, api.admission, key, usage), choices)


def _check(body: CompletionBody) -> None:
    """Check fields against each other."""
    check_common(body)
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise unsupported("best_of", "choices are not ranked", "use `n`")
    if body.max_tokens == 0 and not body.echo:
        raise invalid("max_tokens", "`max_tokens` must be at least 1", "0 is for `echo` alone")


def _placed(prompts: list[Prompt]) -> list[tuple[str, Prompt]]:
    """Return each prompt with the name of its place in the body."""
    return [("prompt" if len(prompts) == 1 else f"prompt[{place}]", prompt) for place, prompt in enumerate(prompts)]


async def _ids(api: "Api", body: CompletionBody, prompt: Prompt, place: str) -> list[int]:
    """Return the token ids of one prompt."""
    if not isinstance(prompt, str):
        return checked_ids(prompt, api.served.vocab_size, place)
    ids = await encoded(api.served, prompt, special=body.add_special_tokens is not False, param=place)
    if not ids:
        raise invalid(place, f"`{place}` is empty", "", "send at least one token")
    return ids


def _params(api: "Api", body: CompletionBody, prompt_tokens: int) -> SamplingParams:
    """Return the sampling parameters for a prompt of that length."""
    tokens = resolved_max_tokens(body.max_tokens, prompt_tokens, api.max_model_len, "prompt")
    return sampling_params(
        body,
        api.served.defaults,
        max_tokens=min(tokens, DEFAULT_MAX_TOKENS) if body.max_tokens is None else max(1, tokens),
        vocab_size=api.served.vocab_size,
        top_logprobs=body.logprobs,
        prompt_logprobs=bool(body.echo) and body.logprobs is not None,
    )


def _choice(api: "Api", body: CompletionBody, index: int, prompt: list[int]) -> CompletionChoice:
    """Return the form of one choice."""
    skip_special = body.skip_special_tokens is not False
    return CompletionChoice(
        index=index,
        tokenizer=api.served.tokenizer,
        prompt_token_ids=prompt,
        prompt_text=api.served.tokenizer.text(prompt, skip_special=skip_special) if body.echo else "",
        num_top=body.logprobs,
        echo=bool(body.echo),
        token_ids=bool(body.return_token_ids),
        skip_special=skip_special,
    )
