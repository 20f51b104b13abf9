"""One request of a client on its way: events of its prompts in, deltas of its choices out."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from glm5_gateway import metrics
from glm5_gateway.dispatch.admission import Admission
from glm5_gateway.dispatch.generation import Generation
from glm5_gateway.events import Ended, Event, PromptScores
from glm5_gateway.merge import merged
from glm5_gateway.output.choice import ChoiceOutput
from glm5_gateway.output.delta import Delta
from glm5_gateway.output.usage import Usage


class Run:
    """Drives the generations of a request.

    Args:
        generations: one for each prompt.
        outputs: the choices of all prompts, prompt by prompt.
        admission: where slots come from.
        key: whose turn it takes.
        usage: is counted up.
    """

    def __init__(
        self,
        generations: Sequence[Generation],
        outputs: Sequence[ChoiceOutput],
        admission: Admission,
        key: str,
        usage: Usage,
    ) -> None:
        self._generations, self._outputs, self._admission, self._key = generations, outputs, admission, key
        self._per_prompt = len(outputs) // len(generations)
        self.usage = usage
        self.scores: dict[int, Sequence[Any]] = {}
        """Logprobs of each prompt that has them, before its first delta."""
        self._arrived = time.monotonic()
        self._last: dict[int, float] = {}

    async def deltas(self) -> AsyncGenerator[tuple[int, Delta], None]:
        """Yield (choice, delta); every choice ends with exactly one finish reason.

        Raises:
            ServiceError: the request could not be completed.
        """
        self._admission.check(len(self._generations))
        sources = [self._events(generation) for generation in self._generations]
        async with aclosing(merged(sources)) as events:
            async for prompt, event in events:
                if isinstance(event, PromptScores):
                    self.scores[prompt] = event.logprobs
                    continue
                index = prompt * self._per_prompt + event.choice
                delta = self._delta(prompt, index, event)
                if self._outputs[index].done:
                    self._generations[prompt].drop(event.choice)
                yield index, delta
        metrics.WHOLE.observe(time.monotonic() - self._arrived)

    async def _events(self, generation: Generation) -> AsyncGenerator[Event, None]:
        """Yield the events of one prompt once it has a slot."""
        async with self._admission.slot(self._key), aclosing(generation.events()) as events:
            async for event in events:
                yield event

    def _delta(self, prompt: int, index: int, event: Any) -> Delta:
        """Return what `event` adds to its choice."""
        output = self._outputs[index]
        if isinstance(event, Ended):
            self.usage.cached_tokens[prompt] = event.cached_tokens
            delta = output.finish(event.reason, event.stop_token_id)
        else:
            self._time(index)
            delta = output.push(event.token_ids, event.logprobs)
        self.usage.completion_tokens[index] = output.num_tokens
        self.usage.reasoning_tokens[index] = output.reasoning_tokens
        return delta

    def _time(self, index: int) -> None:
        """Observe how long the tokens took."""
        now = time.monotonic()
        if index in self._last:
            metrics.NEXT_TOKEN.observe(now - self._last[index])
        elif not self._last:
            metrics.FIRST_TOKEN.observe(now - self._arrived)
        self._last[index] = now
