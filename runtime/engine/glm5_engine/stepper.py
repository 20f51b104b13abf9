"""Computes the rows of one step: as one micro-batch or two, again where shards fail. Used by the engine's loop."""

import asyncio
import logging
from collections.abc import Generator
from time import monotonic
from typing import Protocol

import torch
from torch import Tensor

from glm5_engine import metrics
from glm5_engine.driver import Driver, settled
from glm5_engine.sequence import Entry
from glm5_engine.step import batch_of, split
from glm5_model.batch import Batch
from glm5_model.cache import PagedCache
from glm5_model.exchange import Collect, Dispatch
from glm5_spec.settings import WorkerSettings
from glm5_wire import tracing
from glm5_wire.errors import ServiceError

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_TRACED_STEPS = 64


class Model(Protocol):
    """What the engine needs of glm5_model's Transformer."""

    def forward(self, batch: Batch, cache: PagedCache) -> Generator[Dispatch | Collect, Tensor | None, Tensor]:
        """Return the generator of one forward pass."""


class Stepper:
    """Computes steps, one at a time.

    Args:
        model: the mathematics.
        cache: rows of the pages.
        driver: computes and talks to the experts.
        settings: deadline of the experts, threshold of micro-batches.
    """

    def __init__(self, model: Model, cache: PagedCache, driver: Driver, settings: WorkerSettings) -> None:
        self._model, self._cache, self._driver, self._settings = model, cache, driver, settings
        self._num_steps = 0

    async def compute(self, entries: list[Entry]) -> Tensor:
        """Return the logits of `entries`; a step of a traced request is a span.

        Raises:
            ServiceError: shards stay away for longer than the experts' deadline.
        """
        self._num_steps += 1
        parent = self._traced(entries)
        rows = sum(entry.count for entry in entries)
        with tracing.span_below(parent, "step", rows=rows, sequences=len(entries)) as span:
            return await self._persist(entries, tracing.inject(span))

    def _traced(self, entries: list[Entry]) -> str:
        """Return the trace of a request whose prompt is in this step; of other steps only every 64th is traced."""
        every = self._num_steps % _TRACED_STEPS == 0
        requests = (entry.sequence.request for entry in entries if every or entry.count > 1)
        return next((request.traceparent for request in requests if request.traceparent), "")

    async def _persist(self, entries: list[Entry], traceparent: str) -> Tensor:
        """Compute, and begin again while shards are missing, within the experts' deadline.

        A failed pass leaves nothing behind: the next one writes the same rows of the cache again.
        """
        deadline, pause = monotonic() + self._settings.expert_timeout_seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._forward(entries, traceparent)
            except ServiceError as error:
                if not error.retriable or monotonic() + pause >= deadline:
                    raise
                log.warning("step begins again rows=%d cause=%s", sum(entry.count for entry in entries), error)
            metrics.STEP_RETRIES.inc()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _forward(self, entries: list[Entry], traceparent: str) -> Tensor:
        """Return the logits of `entries`, computed as one micro-batch or as two that take turns."""
        parts = split(entries, self._settings.halved_from)
        if len(parts) == 1:
            return await self._run(entries, traceparent)
        tasks = [asyncio.create_task(self._run(part, traceparent)) for part in parts]
        try:
            return torch.cat(await asyncio.gather(*tasks))
        finally:
            # Nobody may write to the pages of a step that is over, so its tasks are over first.
            for task in tasks:
                task.cancel()
            await settled(*tasks)

    async def _run(self, entries: list[Entry], traceparent: str) -> Tensor:
        forward = self._model.forward(batch_of(entries), self._cache)
        return await self._driver.run(forward, sum(entry.count for entry in entries), traceparent)
